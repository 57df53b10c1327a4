"""The Linux kernel's interfaces and nothing else: one function per system call or file."""
