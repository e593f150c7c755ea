"""Where blocks and votes come from: the development chain, files, and makers of valid input."""
