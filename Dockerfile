# One image for the overseer and every subsystem; what runs is the command (docker-compose.yml).
FROM python:3.11-slim
RUN useradd --create-home --uid 10001 overseer \
    # Volumes that are mounted here take over owner and mode.
    && install --directory --owner overseer --mode 0700 /data /keys \
    && install --directory --owner overseer --mode 0755 /accounts
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY messages messages
COPY overseer overseer
COPY subsystems subsystems
RUN pip install --no-cache-dir '.[substrate,trace]'
USER overseer
ENV OVERSEER_DATA_DIR=/data
ENTRYPOINT ["overseer"]
CMD ["--help"]
