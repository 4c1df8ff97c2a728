"""What the kernel keeps a compute process from: files, networks and other processes that computing does not need."""
