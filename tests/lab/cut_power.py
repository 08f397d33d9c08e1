#!/usr/bin/env python3
"""Cuts the power of mounted ext4 file systems: cut_power.py DIR...

Whatever was not synced is gone, directory entries included, and nothing more can be written until the file system is
mounted again. Whoever writes there must stand still: under a running sync the cut would report success for bytes
that are not durable, which no real disk does.
"""
import fcntl
import os
import struct
import sys

# From Linux: EXT4_IOC_SHUTDOWN, and the flag that keeps the journal from being flushed.
SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2

for directory in sys.argv[1:]:
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    os.close(descriptor)
