// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"migbuf.example/migbuf"
)

// VM is one migration from beginning to end. The order of commands and the names are those of LXD's migrateSendLive; what
// migbuf adds stands out by `h.` and `m.`.
type VM struct {
	load           Load
	dir            string
	giveUp         string // where its migration is given up: base, mirror, stop or memory; "": nowhere
	hangs          bool   // its QEMU does nothing for a while, as its base is copied
	source, target *QEMU
	stands         bool // its migration has stopped it, or may have
	moved          bool
	restored       bool // the host's limits are in force, exactly
	overlayGone    bool
}

const (
	diskBytes = 64 << 20
	overlay   = "lxd_root_snapshot"
	nbd       = "lxd_root_nbd"
)

type args = map[string]any

// host is what the host itself has set on the disk: what has to be in force afterwards.
var host = migbuf.ThrottleConfig{BpsRd: 50000000, IopsWr: 600, IopsWrMax: 900, IopsWrMaxLength: 2, Group: qdev}

func setHostLimits(ctx context.Context, q *QEMU) error {
	return q.Run(ctx, "block_set_io_throttle", args{"id": qdev, "bps": 0, "bps_rd": host.BpsRd, "bps_wr": 0, "iops": 0, "iops_rd": 0,
		"iops_wr": host.IopsWr, "iops_wr_max": host.IopsWrMax, "iops_wr_max_length": host.IopsWrMaxLength}, nil)
}

func hostLimitsInForce(ctx context.Context, q *QEMU) bool {
	var reply struct {
		Return []struct {
			QDev     string `json:"qdev"`
			Inserted migbuf.ThrottleConfig
		} `json:"return"`
	}
	if q.Run(ctx, "query-block", nil, &reply) != nil {
		return false
	}
	for _, d := range reply.Return {
		if d.QDev == qdev {
			return d.Inserted == host
		}
	}
	return false
}

func (v *VM) path(name string) string { return v.dir + "/" + name }

func (v *VM) start(ctx context.Context, t tools) (err error) {
	if err = os.MkdirAll(v.dir, 0700); err != nil {
		return err
	}
	numbers := append(v.load.numbers(), "base_sectors="+strconv.Itoa(int(v.load.BaseSectors)))
	if err = t.run(t.writer, append([]string{"make", v.path("source.img"), strconv.Itoa(diskBytes)}, numbers...)...); err != nil {
		return err
	}
	if v.source, err = startQEMU(v.path("source"), v.path("source.img"), t.guest, v.load, false); err != nil {
		return err
	}
	if err = setHostLimits(ctx, v.source); err != nil {
		return err
	}
	return v.source.writes(0)
}

// geometry: virtio-blk merges neighbours, so the throttle may see all of the queue as one request.
func (v *VM) geometry() (migbuf.Geometry, error) {
	request, depth := uint64(v.load.Sectors)*512, uint64(v.load.Depth)
	g := migbuf.NewGeometry(diskBytes)
	g.BlockBytes, g.RequestBytes, g.ExtraBytes = 4096, request*depth, migbuf.None // on a tmpfs, a plain qcow2
	if request%65536 == 0 {
		g.Flags = migbuf.GeometryAligned
	}
	var err error
	g.QueueBytes, err = g.Drain(depth, request)
	return g, err
}

// undo runs, last first, what a step left to be undone. The way back does not end with the context of the way there.
type undo []func(context.Context)

func (u *undo) add(f func(context.Context)) { *u = append(*u, f) }
func (u *undo) all() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	for i := len(*u) - 1; i >= 0; i-- {
		(*u)[i](ctx)
	}
	*u = nil
}

func (v *VM) name() string { return fmt.Sprintf("vm%d", v.load.ID-1) }

func (v *VM) migrate(ctx context.Context, h *migbuf.Host, t tools, volume string, link *Wire) (err error) {
	s := v.source
	geometry, err := v.geometry()
	if err != nil {
		return err
	}
	m, err := h.Migrate(ctx, migbuf.HostVM{Name: v.name(), Monitor: s, Disks: []migbuf.HostDisk{{Node: "lxd_root", Geometry: geometry}},
		Migration: migbuf.Migration{Link: linkID, FlowBytesPerS: uint64(link.share())}})
	if err != nil { // what was set is given back without us
		for h.Member(v.name()) != nil && sleep(context.Background(), 20*time.Millisecond) == nil {
		}
		v.restored = hostLimitsInForce(context.Background(), s)
		return err
	}
	var revert undo
	defer func() { revert.all() }()
	revert.add(func(back context.Context) { // after the merge has ended: until then the overlay grows
		if errors.Is(err, errGivenUp) {
			v.told(m.Because(migbuf.AttemptWhyCancelled))
		}
		v.told(m.GiveUp(back))
		v.restored = hostLimitsInForce(back, s)
	})

	if err = s.setCapabilities(ctx); err != nil {
		return err
	}
	file, err := makeOverlay(t, m.Path(volume+"/overlay.qcow2"))
	if err != nil {
		return err
	}
	defer file.Close()
	if err = m.Overlay(ctx, 0, file); err != nil { // from here on its size is measured
		return err
	}
	var fdset struct {
		Return struct {
			ID int `json:"fdset-id"`
		} `json:"return"`
	}
	err = s.run(ctx, "add-fd", args{"opaque": "rdwr:" + overlay}, &fdset, file)
	file.Close() // QEMU and the Host have their own
	if err != nil {
		return err
	}
	revert.add(func(back context.Context) { v.told(s.Run(back, "remove-fd", args{"fdset-id": fdset.Return.ID}, nil)) })
	if err = s.Run(ctx, "blockdev-add", args{"driver": "qcow2", "node-name": overlay, "read-only": false,
		"file": args{"driver": "file", "filename": fmt.Sprintf("/dev/fdset/%d", fdset.Return.ID)}}, nil); err != nil {
		return err
	}
	revert.add(func(back context.Context) {
		v.told(s.Run(back, "blockdev-del", args{"node-name": overlay}, nil))
		// Nothing grows any more, and it has to run: QEMU closes a descriptor it was told to remove only then.
		if v.stands {
			v.told(s.Run(back, "cont", nil, nil))
		}
	})
	if err = s.Run(ctx, "blockdev-snapshot", args{"node": "lxd_root", "overlay": overlay}, nil); err != nil {
		return err
	}
	revert.add(func(back context.Context) {
		e := v.mergeBack(back, m)
		v.told(e)
		v.overlayGone = e == nil
	})

	// The longest phase: the storage driver copies the base, the guest writes to the overlay.
	if v.hangs {
		defer s.hang(3 * time.Second)()
	}
	if err = v.copyBase(ctx, link, m); err != nil {
		return err
	}
	if v.giveUp == "base" {
		return errGivenUp
	}
	if err = v.startTarget(ctx, t); err != nil {
		return err
	}
	revert.add(func(context.Context) { v.target.end() })
	if err = s.Run(ctx, "blockdev-add", args{"node-name": nbd, "driver": "raw", "file": args{"driver": "nbd", "export": "lxd_root",
		"server": args{"type": "unix", "path": v.target.path("nbd")}}}, nil); err != nil {
		return err
	}
	revert.add(func(back context.Context) { v.told(s.Run(back, "blockdev-del", args{"node-name": nbd}, nil)) })
	if err = s.Run(ctx, "blockdev-mirror", args{"device": overlay, "target": nbd, "sync": "top", "job-id": overlay,
		"copy-mode": "write-blocking", "speed": link.share()}, nil); err != nil {
		return err
	}
	revert.add(func(back context.Context) {
		_ = s.Run(back, "block-job-cancel", args{"device": overlay}, nil)
		v.told(v.waitJob(back, m, false))
	})
	if err = m.Mirror(ctx); err != nil {
		return err
	}
	if err = v.waitJob(ctx, m, true); err != nil {
		return err
	}
	if v.giveUp == "mirror" {
		return errGivenUp
	}

	// TCG loses track of pages a running vCPU writes to, so the guest stands while its memory is sent. KVM needs no such step.
	if err = m.Memory(ctx); err != nil {
		return err
	}
	v.stands = true // also where nobody hears the answer
	if v.giveUp == "stop" {
		if err = s.unheard(ctx, "stop"); err != nil {
			return err
		}
		return errGivenUp
	}
	if err = s.Run(ctx, "stop", nil, nil); err != nil {
		return err
	}
	if err = m.Drained(ctx, 1); err != nil {
		return err
	}
	if err = s.Run(ctx, "migrate", args{"uri": "unix:" + v.target.path("ram")}, nil); err != nil {
		return err
	}
	revert.add(func(back context.Context) {
		_ = s.Run(back, "migrate_cancel", nil, nil)
		_ = s.Run(back, "migrate-continue", args{"state": "cancelling"}, nil) // QEMU 7.2 may have paused all the same, and waits
		v.told(waitMigration(back, s, nil, "cancelled"))
	})
	if err = waitMigration(ctx, s, m.RAM, "pre-switchover"); err != nil {
		return err
	}
	if v.giveUp == "memory" {
		return errGivenUp
	}
	if err = s.Run(ctx, "block-job-cancel", args{"device": overlay}, nil); err != nil { // a ready mirror: completes without pivot
		return err
	}
	if err = v.waitJob(ctx, m, false); err != nil {
		return err
	}
	if err = m.Drained(ctx, 0); err != nil {
		return err
	}
	if err = s.Run(ctx, "migrate-continue", args{"state": "pre-switchover"}, nil); err != nil {
		return err
	}
	if err = waitMigration(ctx, s, m.RAM, "completed"); err != nil {
		return err
	}
	revert = nil // the guest is at the target: no way back
	v.moved = true
	// The source is done when it has sent everything. A target that still reads it would forget a cont. It arrives, whatever
	// ends the way there.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err = waitMigration(ctx, v.target, nil, "completed"); err != nil {
		return err
	}
	if err = v.target.Run(ctx, "cont", nil, nil); err != nil {
		return err
	}
	s.end()
	if err = m.Finish(ctx); err != nil {
		return err
	}
	v.restored = hostLimitsInForce(ctx, v.target)
	v.overlayGone = true
	return nil
}

// told reports what went wrong on the way back, where there is nothing else to be done about it.
func (v *VM) told(err error) {
	if err != nil {
		say("%s: going back: %v", v.name(), err)
	}
}

func makeOverlay(t tools, path string) (*os.File, error) {
	if err := t.run("qemu-img", "create", "-q", "-f", "qcow2", path, strconv.Itoa(diskBytes)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		err = os.Remove(path)
	}
	return f, err
}

func (v *VM) copyBase(ctx context.Context, link *Wire, m *migbuf.Member) error {
	from, err := os.Open(v.path("source.img"))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(v.path("target.img"))
	if err != nil {
		return err
	}
	defer to.Close()
	if err := to.Truncate(diskBytes); err != nil {
		return err
	}
	block, left := make([]byte, 256<<10), uint64(v.load.BaseSectors)*512
	for at := int64(0); at < diskBytes; at += int64(len(block)) {
		if _, err := io.ReadFull(from, block); err != nil {
			return err
		}
		if zero(block) {
			continue // holes cost nothing
		}
		if err := link.send(ctx, len(block)); err != nil {
			return err
		}
		if _, err := to.WriteAt(block, at); err != nil {
			return err
		}
		if left > uint64(len(block)) {
			left -= uint64(len(block))
		}
		if err := m.Remaining(left); err != nil {
			return err
		}
	}
	return nil
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

func (v *VM) startTarget(ctx context.Context, t tools) (err error) {
	if v.target, err = startQEMU(v.path("target"), v.path("target.img"), t.guest, v.load, true); err != nil {
		return err
	}
	for _, step := range []struct {
		command string
		args    args
	}{
		{"nbd-server-start", args{"addr": args{"type": "unix", "data": args{"path": v.target.path("nbd")}}, "max-connections": 1}},
		{"block-export-add", args{"id": "lxd_root", "type": "nbd", "node-name": "lxd_root", "writable": true}},
		{"migrate-incoming", args{"uri": "unix:" + v.target.path("ram")}},
	} {
		if err = v.target.Run(ctx, step.command, step.args, nil); err != nil {
			return err
		}
	}
	return setHostLimits(ctx, v.target) // the limits do not travel: the target's host sets its own
}

type job struct {
	Device string `json:"device"`
	Len    uint64 `json:"len"`
	Offset uint64 `json:"offset"`
	Ready  bool   `json:"ready"`
}

func (v *VM) job(ctx context.Context) (*job, error) {
	var reply struct {
		Return []job `json:"return"`
	}
	if err := v.source.Run(ctx, "query-block-jobs", nil, &reply); err != nil {
		return nil, err
	}
	for _, j := range reply.Return {
		if j.Device == overlay {
			return &j, nil
		}
	}
	return nil, nil
}

// waitJob waits until the job on the overlay is ready, or gone. What it has left is told to m, which may be nil.
func (v *VM) waitJob(ctx context.Context, m *migbuf.Member, ready bool) error {
	for {
		j, err := v.job(ctx)
		switch {
		case err != nil:
			return err
		case j == nil && ready:
			return fmt.Errorf("the job on %s ended too early", overlay)
		case j == nil || (ready && j.Ready):
			return nil
		}
		if err := m.Remaining(j.Len - j.Offset); err != nil {
			return err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// mergeBack commits the overlay into the disk it lies on. What is left of these jobs is not on the link.
func (v *VM) mergeBack(ctx context.Context, m *migbuf.Member) error {
	return m.Merge(ctx, func(ctx context.Context) error {
		if err := v.source.Run(ctx, "block-commit", args{"device": overlay, "job-id": overlay}, nil); err != nil {
			return err
		}
		return v.waitJob(ctx, nil, true)
	}, func(ctx context.Context) error {
		if err := v.source.Run(ctx, "block-job-complete", args{"device": overlay}, nil); err != nil {
			return err
		}
		return v.waitJob(ctx, nil, false)
	})
}

// waitMigration waits until the memory's migration is so. tell hears what QEMU says of it on the way; nil: nobody does. What
// tell cannot use is missing in the VM's history, and costs the migration nothing.
func waitMigration(ctx context.Context, q *QEMU, tell func(*migbuf.RAMReport) error, wanted string) error {
	said := false
	for {
		var reply struct {
			Return migbuf.RAMReport `json:"return"`
		}
		if err := q.Run(ctx, "query-migrate", nil, &reply); err != nil {
			return err
		}
		if tell != nil {
			if err := tell(&reply.Return); err != nil && !said {
				say("for the history: %v", err)
				said = true
			}
		}
		switch reply.Return.Status {
		case wanted:
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("the migration has the status %s", reply.Return.Status)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// check stops the guest where it is and holds its disk against what it was told to be safe.
func (v *VM) check(ctx context.Context, t tools) (acknowledged, lost int, err error) {
	q, image := v.source, v.path("source.img")
	if v.moved {
		q, image = v.target, v.path("target.img")
	}
	if err = q.writes(q.acknowledged()); err != nil { // it went on
		return 0, 0, err
	}
	if err = q.Run(ctx, "stop", nil, nil); err != nil {
		return 0, 0, err
	}
	q.end()
	numbers := append(v.load.numbers(), "base_sectors="+strconv.Itoa(int(v.load.BaseSectors)))
	out, err := exec.Command(t.writer, append([]string{"check", image, q.memory()}, numbers...)...).CombinedOutput()
	var slots, foreign, base int
	if _, e := fmt.Sscanf(string(out), "acknowledged %d slots %d lost %d foreign %d base %d", &acknowledged, &slots, &lost, &foreign, &base); e != nil {
		return 0, 0, fmt.Errorf("%s: %v: %s", t.writer, err, out)
	}
	if err != nil {
		err = fmt.Errorf("vm%d: %s", v.load.ID, strings.TrimSpace(string(out)))
	}
	return acknowledged, lost + foreign + base, err
}
