// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"migbuf.example/migbuf"
)

// onOverlay puts a real overlay on top of a real QEMU's disk, as a daemon's migration function does.
func onOverlay(t *testing.T, q *QEMU, m *migbuf.Member) {
	t.Helper()
	path := m.Path("/elsewhere/overlay.qcow2")
	out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", path, "64M").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	must(t, os.Remove(path))
	must(t, m.Overlay(background, 0, file))
	must(t, q.run(background, "add-fd", args{"fdset-id": 1, "opaque": "rdwr:" + overlay}, nil, file))
	must(t, q.Run(background, "blockdev-add", args{"driver": "qcow2", "node-name": overlay, "read-only": false,
		"file": args{"driver": "file", "filename": "/dev/fdset/1"}}, nil))
	must(t, q.Run(background, "blockdev-snapshot", args{"node": "lxd_root", "overlay": overlay}, nil))
}

// mergedBack is a daemon's commit, in its two parts.
func mergedBack(t *testing.T, q *QEMU, m *migbuf.Member) {
	t.Helper()
	v := &VM{source: q}
	must(t, m.Merge(background, func(ctx context.Context) error {
		if err := q.Run(ctx, "block-commit", args{"device": overlay, "job-id": overlay}, nil); err != nil {
			return err
		}
		return v.waitJob(ctx, nil, true)
	}, func(ctx context.Context) error {
		if q.runs(t) {
			t.Error("the commit is completed under a running guest")
		}
		if err := q.Run(ctx, "block-job-complete", args{"device": overlay}, nil); err != nil {
			return err
		}
		return v.waitJob(ctx, nil, false)
	}))
	must(t, q.Run(background, "blockdev-del", args{"node-name": overlay}, nil))
	must(t, q.Run(background, "remove-fd", args{"fdset-id": 1}, nil))
}

// A Host with a real QEMU that hangs, and whose daemon dies: in the end the overlay's bytes are free and the host's own
// limits are back.
func TestHost(t *testing.T) {
	for _, dies := range []bool{false, true} {
		q := emptyQEMU(t)
		must(t, setHostLimits(background, q))
		config := migbuf.HostConfig{Volume: t.TempDir(), State: filepath.Join(t.TempDir(), "state"), CapacityBytes: 4 << 30,
			Monitor: func(context.Context, string) (migbuf.Monitor, error) { return q, nil }}
		h, err := migbuf.OpenHost(background, config)
		must(t, err)
		defer func() { must(t, h.Close()) }()
		vm := migbuf.HostVM{Name: "vm1", Monitor: q, Disks: []migbuf.HostDisk{{Node: "lxd_root", Geometry: migbuf.NewGeometry(64 << 20)}}}
		m, err := h.Migrate(background, vm)
		must(t, err)
		if c := q.inForce(t); c.Group == host.Group || c.IopsWr == 0 {
			t.Errorf("before the overlay is made %+v is in force", c)
		}
		onOverlay(t, q, m)
		used := func() uint64 {
			s, err := h.Buffer().Stats()
			must(t, err)
			return s.UsedBytes
		}
		eventually(t, "its size", func() bool { return used() > 100000 })
		size := used()
		if descriptors(t, os.Getpid()) == 0 || descriptors(t, q.process.Process.Pid) == 0 {
			t.Error("the overlay has no descriptors")
		}
		must(t, m.Mirror(background))
		if dies {
			must(t, h.Close())
			h, err = migbuf.OpenHost(background, config)
			must(t, err)
			m = h.Member("vm1")
			must(t, m.Mirror(background)) // it was taken on
			eventually(t, "its size, from QEMU", func() bool { return used() == size })
		}
		q.stop(t)
		unknown, ticks := h.Stats().Unknown, uint64(0)
		eventually(t, "an unknown outcome", func() bool {
			s, err := h.Buffer().Stats()
			must(t, err)
			if ticks == 0 {
				ticks = s.Ticks
			}
			return h.Stats().Unknown > unknown && s.Ticks > ticks
		})
		short, cancel := context.WithTimeout(background, 30*time.Millisecond)
		if err := m.GiveUp(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
		q.resume(t)
		eventually(t, "what is on top", func() bool { return errors.Is(m.GiveUp(background), migbuf.ErrInUse) })
		if c := q.inForce(t); c.Group == host.Group {
			t.Errorf("the overlay is on top, and %+v is in force", c)
		}
		mergedBack(t, q, m)
		must(t, m.GiveUp(background))
		if q.inForce(t) != host || !q.runs(t) || h.Member("vm1") != nil || used() != 0 {
			t.Errorf("%+v is in force", q.inForce(t))
		}
		if open := descriptors(t, os.Getpid()) + descriptors(t, q.process.Process.Pid); open != 0 {
			t.Error(open, "descriptors of the overlay are left")
		}
	}
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come: ", what)
		}
	}
}

// descriptors counts a process's of an overlay, whose name is removed.
func descriptors(t *testing.T, pid int) (n int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	must(t, err)
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && filepath.Ext(to) == ".qcow2 (deleted)" {
			n++
		}
	}
	return n
}
