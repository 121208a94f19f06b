// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"migbuf.example/migbuf"
)

// newMember is one under control, in a volume of 40 MiB, with a peer for its QEMU that answers as f says.
func newMember(t *testing.T, policy migbuf.Policy, f func(a asked) string) (*Control, *Member) {
	t.Helper()
	m, p := newPeer(t)
	p.serve(f)
	dir := t.TempDir()
	root, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() { root.Close() })
	c, err := newControl(root, &Wire{rate: 1, flows: 1}, time.Second, policy, filepath.Join(dir, "buffer"))
	must(t, err)
	t.Cleanup(func() { must(t, c.buffer.Close()) })
	_, err = c.buffer.Resize(40 << 20)
	must(t, err)
	member := &Member{id: 1, qemu: &QEMU{Monitor: m, ended: make(chan struct{})}}
	member.disk, err = migbuf.NewDisk("migbuf-vm1", "lxd_root")
	must(t, err)
	t.Cleanup(func() { must(t, member.disk.Close()) })
	must(t, c.add(member, migbuf.Geometry{VirtualBytes: 64 << 20, ClusterBytes: 65536, SubclusterBytes: 65536, BlockBytes: 4096,
		RequestBytes: 65536, QueueBytes: 1 << 20, ExtraBytes: migbuf.None}))
	return c, member
}

const oneDisk = `"return": [{"qdev": "dev", "inserted": {"node-name": "lxd_root", "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0}}]`

// What became of a decision goes to the buffer: one of which nobody knows is made again, one that QEMU refused too, and one
// that was carried out is not.
func TestControlTellsTheBuffer(t *testing.T) {
	for _, c := range []struct {
		answer  string // to what sets a limit
		unknown int32
		refused int32
		again   bool
	}{{"", 1, 0, true}, {`"error": {"class": "GenericError", "desc": "no"}`, 0, 1, true}, {`"return": {}`, 0, 0, false}} {
		var mute int32 = 1
		control, m := newMember(t, migbuf.PolicyPlanner, func(a asked) string {
			switch {
			case a.Execute == "query-block":
				return oneDisk
			case atomic.LoadInt32(&mute) != 0:
				return c.answer
			}
			return `"return": {}`
		})
		must(t, m.disk.Learn(background, m.qemu))
		if _, err := control.tick(background); err != nil {
			t.Fatal(err)
		}
		if control.unknown != c.unknown || control.refused != c.refused {
			t.Errorf("%q: unknown %d, refused %d", c.answer, control.unknown, control.refused)
		}
		atomic.StoreInt32(&mute, 0)
		if _, err := control.tick(background); err != nil {
			t.Fatal(err)
		}
		if d := control.decisions[0]; d.Action.Acts() != c.again {
			t.Errorf("%q: then %v", c.answer, d.Action)
		}
		text, err := os.ReadFile(control.state)
		if err != nil || !strings.HasPrefix(string(text), "migbuf-buffer") {
			t.Errorf("%.20q %v", text, err)
		}
	}
}

// The merge is completed under a guest that stands, and no decision lets it run before.
func TestMergeBack(t *testing.T) {
	var mu sync.Mutex
	var said []string
	heard := func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(said, " ")
	}
	jobs := []string{"", `{"device": "lxd_root_snapshot", "len": 9, "offset": 3, "ready": false}`, `{"device": "lxd_root_snapshot", "len": 9, "offset": 9, "ready": true}`}
	at := 0
	c, m := newMember(t, migbuf.PolicyPlanner, func(a asked) string {
		mu.Lock()
		defer mu.Unlock()
		switch a.Execute {
		case "query-block":
			return oneDisk
		case "query-block-jobs":
			if at == 1 { // it gets ready
				at = 2
			}
			return `"return": [` + jobs[at] + `]`
		case "block-commit":
			at = 1
		case "block-job-complete":
			at = 0
		}
		said = append(said, a.Execute)
		return `"return": {}`
	})
	must(t, m.disk.Learn(background, m.qemu))
	must(t, (&VM{source: m.qemu}).mergeBack(background, c, m))
	if heard() != "block-commit stop block-job-complete" {
		t.Error(heard())
	}
	for _, d := range []migbuf.Decision{limit(migbuf.ActionResume, 100), {Action: migbuf.ActionPause}} {
		if err := m.apply(background, d); err != nil {
			t.Error(err)
		}
	}
	if s := heard(); strings.Contains(s, "cont") || strings.Count(s, "stop") > 1 {
		t.Error(s)
	}
}

// A drain for which there is no room waits until there is: until the limits that leave it have landed.
func TestPhaseWaits(t *testing.T) {
	c, m := newMember(t, migbuf.PolicyPaper, func(a asked) string {
		if a.Execute == "query-block" {
			return oneDisk
		}
		return `"return": {}`
	})
	must(t, m.disk.Learn(background, m.qemu))
	must(t, c.Tick(background))
	before, err := c.buffer.View(m.id)
	must(t, err)
	ended, end := context.WithCancel(background)
	end()
	if err := c.Phase(ended, m.id, migbuf.PhaseBase, 20); err == nil {
		t.Error("what was given away is there at once")
	}
	must(t, c.Phase(background, m.id, migbuf.PhaseBase, 20))
	after, err := c.buffer.View(m.id)
	must(t, err)
	if after.ReserveBytes != 21<<20 || after.InForceBytesPerS >= before.InForceBytesPerS {
		t.Errorf("%+v, before %+v", after, before)
	}
	must(t, c.Phase(ended, m.id, migbuf.PhaseBase, 0)) // fewer always have room
	if err := c.Phase(background, 9, migbuf.PhaseBase, 1); err == nil {
		t.Error("nobody has this number")
	}
}
