#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""inside.py DRIVERS: puts a migbuf.Host into Incus 6.0.4, in its directory internal/server/instance/drivers.

inside.go goes beside driver_qemu.go, and these lines into migrateSendLive. Nothing of Incus is kept here but the words by which a
place is found. Prints how many lines are ours."""
import os
import re
import shutil
import sys

# Where (a pattern, found once), what to do there, our lines.
EDITS = [
    (r"\trevert := revert\.New\(\)\n", "after",
     "\tctx := context.Background()\n"
     "\tm, err := d.intoBuffer(ctx, monitor, rootDiskSize)\n"
     "\tif err != nil {\n"
     "\t\treturn err\n"
     "\t}\n"
     "\n"
     "\tdefer func() { _ = m.GiveUp(ctx) }()\n"),
    (r'filepath\.Join\(d\.Path\(\), "migration_snapshot\.qcow2"\)', "instead", 'm.Path(filepath.Join(d.Path(), "migration_snapshot.qcow2"))'),
    (r"\t\tdefer func\(\) \{ _ = snapFile\.Close\(\) \}\(\)\n", "after",
     "\t\terr = m.Overlay(ctx, 0, snapFile)\n"
     "\t\tif err != nil {\n"
     "\t\t\treturn err\n"
     "\t\t}\n"),
    # On the way back Merge lets the guest run. On the way forward it does here too: the guest is at the target by then.
    (r"\t\t\t// Resume guest \(this(?:.*\n)*?\n(?=\t\t\t// Try)", "instead", ""),
    (r"monitor\.BlockCommit\(rootSnapshotDiskName\)", "instead of each", "merge(ctx, m, monitor, rootSnapshotDiskName)"),
    (r'\t\td\.logger\.Debug\("Migration storage snapshot transfer finished"\)\n', "after",
     "\t\terr = m.Mirror(ctx)\n"
     "\t\tif err != nil {\n"
     "\t\t\treturn err\n"
     "\t\t}\n"),
    (r"\tpipeRead, pipeWrite, err := os\.Pipe\(\)\n", "before",
     "\terr = m.Memory(ctx)\n"
     "\tif err != nil {\n"
     "\t\treturn err\n"
     "\t}\n"
     "\n"),
]


def edit(text):
    lines = 0
    for place, how, ours in EDITS:
        found = list(re.finditer(place, text))
        if not found or (len(found) > 1 and how != "instead of each"):
            sys.exit("%d places are like %s: this is not Incus 6.0.4" % (len(found), place))
        for at in reversed(found):
            begin, end = {"after": (at.end(), at.end()), "before": (at.start(), at.start())}.get(how, at.span())
            text = text[:begin] + ours + text[end:]
            lines += sum(bool(line.strip()) for line in ours.splitlines())
    return text, lines


def main():
    path = os.path.join(sys.argv[1], "driver_qemu.go")
    with open(path) as file:
        text = file.read()
    begin = text.index("func (d *qemu) migrateSendLive(")
    end = text.index("\n}\n", begin)
    function, lines = edit(text[begin:end])
    with open(path, "w") as file:
        file.write(text[:begin] + function + text[end:])
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside.go")
    shutil.copy(here, os.path.join(sys.argv[1], "migbuf.go"))
    with open(here) as file:
        ours = file.read().split("\n)\n", 1)[1]  # what is behind the imports
    glue = sum(1 for line in ours.splitlines() if line.strip() and not line.startswith("//"))
    print("%d lines in migrateSendLive, %d of glue" % (lines, glue))


if __name__ == "__main__":
    main()
