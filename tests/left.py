# SPDX-License-Identifier: MIT
"""What an evacuation that was started in a directory of its own has left: for evacuations.sh, hosts.sh and kills.sh."""
import glob


def processes(directory, program=""):
    """Those with the directory on their command line, for its name is unique, and of that program if one is named."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                words = file.read()
        except OSError:
            continue
        if directory.encode() in words and program.encode() in words.split(b"\0")[0]:
            found.append(int(path.split("/")[2]))
    return sorted(found)


def left_over(directory):
    """In words, for people."""
    left = ["process %d" % pid for pid in processes(directory)]
    with open("/proc/mounts") as file:
        if directory in file.read():
            left.append("a mount")
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            with open(path) as file:
                if directory in file.read():
                    left.append("a loop device")
        except OSError:
            pass
    return left
