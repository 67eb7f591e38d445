"""What is asked of the machine: files, memory, the process, libraries that may be missing, shipped files."""
