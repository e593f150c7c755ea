# One image for the overseer and every subsystem; what runs is the command.
FROM python:3.11-slim
RUN useradd --create-home --uid 10001 overseer
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY messages messages
COPY overseer overseer
COPY subsystems subsystems
RUN pip install --no-cache-dir . && mkdir /data && chown overseer /data
USER overseer
VOLUME /data
ENV OVERSEER_DATA_DIR=/data
ENTRYPOINT ["overseer"]
CMD ["--help"]
