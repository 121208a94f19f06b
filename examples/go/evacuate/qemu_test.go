// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"migbuf.example/migbuf"
)

var background = context.Background()

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// emptyQEMU is a real one with a disk and nobody in it. It runs.
func emptyQEMU(t *testing.T) *QEMU {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil && os.Getenv("MIGBUF_QEMU") == "" {
		t.Skip(err)
	}
	dir := t.TempDir()
	image := filepath.Join(dir, "disk.img")
	must(t, os.WriteFile(image, nil, 0600))
	must(t, os.Truncate(image, 64<<20))
	q, err := startQEMU(filepath.Join(dir, "q"), image, "", Load{}, false)
	must(t, err)
	t.Cleanup(func() {
		_ = q.process.Process.Signal(syscall.SIGCONT)
		q.end()
	})
	must(t, q.Run(background, "cont", nil, nil))
	return q
}

// stop has the process hang, and returns when it does.
func (q *QEMU) stop(t *testing.T) {
	t.Helper()
	must(t, q.process.Process.Signal(syscall.SIGSTOP))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", q.process.Process.Pid))
		must(t, err)
		if fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])); fields[0] == "T" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not stop")
		}
	}
}

func (q *QEMU) resume(t *testing.T) {
	t.Helper()
	must(t, q.process.Process.Signal(syscall.SIGCONT))
}

func (q *QEMU) inForce(t *testing.T) migbuf.ThrottleConfig {
	t.Helper()
	var reply struct {
		Return []struct {
			QDev     string `json:"qdev"`
			Inserted migbuf.ThrottleConfig
		} `json:"return"`
	}
	must(t, q.Run(background, "query-block", nil, &reply))
	for _, d := range reply.Return {
		if d.QDev == qdev {
			return d.Inserted
		}
	}
	t.Fatal("no disk")
	return migbuf.ThrottleConfig{}
}

func (q *QEMU) runs(t *testing.T) bool {
	t.Helper()
	var reply struct {
		Return struct{ Running bool } `json:"return"`
	}
	must(t, q.Run(background, "query-status", nil, &reply))
	return reply.Return.Running
}

func (q *QEMU) hasGroup(t *testing.T, name string) bool {
	t.Helper()
	var reply struct {
		Return []struct{ Name string } `json:"return"`
	}
	must(t, q.Run(background, "qom-list", args{"path": "/objects"}, &reply))
	for _, object := range reply.Return {
		if object.Name == name {
			return true
		}
	}
	return false
}

func limit(action migbuf.Action, units uint64) migbuf.Decision {
	return migbuf.Decision{Action: action, Limits: migbuf.Limits{IopsWr: units, IopsSize: 65536}}
}

// QEMU hangs when it is told something, and does it when nobody waits for the answer any more. None of our limits becomes
// the host's, and in the end the host's own are back, exactly.
func TestHangingQEMU(t *testing.T) {
	for _, waits := range []string{"as long as a context", "as long as Incus does"} {
		q := emptyQEMU(t)
		must(t, setHostLimits(background, q))
		d, err := migbuf.NewDisk("migbuf-vm1", "lxd_root")
		must(t, err)
		must(t, d.Learn(background, q))
		must(t, d.Apply(background, q, limit(migbuf.ActionLower, 100)))
		steps := []migbuf.Decision{limit(migbuf.ActionLower, 5), limit(migbuf.ActionRaise, 300), {Action: migbuf.ActionPause},
			limit(migbuf.ActionResume, 80)}
		limits := context.WithTimeout
		if waits == "as long as Incus does" {
			q.timeout = asIncus
			steps = []migbuf.Decision{steps[0], steps[2], limit(migbuf.ActionResume, 5)} // the raise would take 5 s
			limits = func(ctx context.Context, _ time.Duration) (context.Context, context.CancelFunc) {
				return ctx, func() {}
			}
		}
		units := uint64(0)
		for _, step := range steps {
			q.stop(t)
			ctx, cancel := limits(background, 30*time.Millisecond)
			err := d.Apply(ctx, q, step)
			cancel()
			if !errors.Is(err, migbuf.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s, %v: %v", waits, step.Action, err)
			}
			q.resume(t)
			q.timeout = patient
			must(t, d.Learn(background, q)) // as a host does now and then
			must(t, d.Apply(background, q, step))
			if step.Limits.IopsWr != 0 {
				units = step.Limits.IopsWr
			}
			if c := q.inForce(t); c.IopsWr != units || c.Group != "migbuf-vm1" || q.runs(t) == step.Action.Stops() {
				t.Errorf("%s, %v: %+v", waits, step.Action, c)
			}
			if waits == "as long as Incus does" {
				q.timeout = asIncus
			}
		}
		q.timeout = patient
		q.stop(t)
		ctx, cancel := context.WithTimeout(background, 30*time.Millisecond)
		if err := d.Restore(ctx, q); !errors.Is(err, migbuf.ErrUnknown) {
			t.Error(err)
		}
		cancel()
		q.resume(t)
		must(t, d.Restore(background, q))
		info, err := d.Info()
		if err != nil || !info.Restored || info.TakenOver != 0 || q.inForce(t) != host || q.hasGroup(t, "migbuf-vm1") || !q.runs(t) {
			t.Errorf("%s: %+v %v; %+v is in force", waits, info, err, q.inForce(t))
		}
		must(t, d.Close())
	}
}

// The connection is lost while QEMU hangs, and the host's process with it. The next one has what was saved.
func TestHangingQEMUAndLostConnection(t *testing.T) {
	q := emptyQEMU(t)
	must(t, setHostLimits(background, q))
	var text string
	d, err := migbuf.NewDisk("migbuf-vm1", "lxd_root")
	must(t, err)
	d.SaveWith(func(_ context.Context, s string) error { text = s; return nil })
	must(t, d.Learn(background, q))
	must(t, d.Apply(background, q, limit(migbuf.ActionLower, 100)))
	q.stop(t)
	came := make(chan error)
	go func() { came <- d.Apply(background, q, migbuf.Decision{Action: migbuf.ActionPause}) }()
	must(t, q.Monitor.Close())
	if err := <-came; !errors.Is(err, migbuf.ErrUnknown) {
		t.Error(err)
	}
	if err := d.Learn(background, q); !errors.Is(err, migbuf.ErrUnknown) {
		t.Error(err)
	}
	must(t, d.Close())
	q.resume(t)
	q.Monitor, err = connect(q.path("qmp"))
	must(t, err)
	d, err = migbuf.LoadDisk(text)
	must(t, err)
	defer d.Close()
	must(t, d.Pump(background, q))
	info, err := d.Info()
	if err != nil || info.Limits.IopsWr != 100 {
		t.Errorf("%+v %v", info, err)
	}
	must(t, d.Restore(background, q))
	if q.inForce(t) != host || q.hasGroup(t, "migbuf-vm1") || !q.runs(t) {
		t.Errorf("%+v %v", q.inForce(t), q.runs(t))
	}
}

// typed is what LXD's monitor lets others call, on a real QEMU.
type sixRates struct {
	q   *QEMU
	ctx context.Context
}

func (m *sixRates) SetBlockThrottle(id string, bytesRead int, bytesWrite int, iopsRead int, iopsWrite int) error {
	return m.q.Run(m.ctx, "block_set_io_throttle", args{"id": id, "bps": 0, "bps_rd": bytesRead, "bps_wr": bytesWrite, "iops": 0,
		"iops_rd": iopsRead, "iops_wr": iopsWrite}, nil)
}

func (m *sixRates) Status() (string, error) {
	var reply struct {
		Return struct{ Status string } `json:"return"`
	}
	err := m.q.Run(m.ctx, "query-status", nil, &reply)
	return reply.Return.Status, err
}

func (m *sixRates) Pause() error { return m.q.Run(m.ctx, "stop", nil, nil) }
func (m *sixRates) Start() error { return m.q.Run(m.ctx, "cont", nil, nil) }

func isRefusal(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}

// LXD's calls of six rates: QEMU hangs, then the daemon is restarted. The new one knows only the disk's configuration and what was
// saved, and cannot ask QEMU for limits. They go all the same.
func TestTypedAndRestarted(t *testing.T) {
	for _, own := range []migbuf.ThrottleConfig{{}, {BpsRd: 9000000, IopsWr: 700}} {
		q := emptyQEMU(t)
		m := &sixRates{q, background}
		if own != (migbuf.ThrottleConfig{}) {
			must(t, m.SetBlockThrottle(qdev, int(own.BpsRd), 0, 0, int(own.IopsWr)))
		}
		before := q.inForce(t)
		disk := migbuf.LXDDisk{Node: "lxd_root", QDev: qdev, Host: own}
		adapter := migbuf.FromLXD(m, isRefusal, disk)
		d, err := migbuf.NewDisk("migbuf-vm1", "lxd_root")
		must(t, err)
		must(t, d.SixRates())
		must(t, d.Learn(background, adapter))
		text, err := d.Save()
		must(t, err)
		must(t, d.Set(background, adapter, migbuf.Limits{IopsWr: 50, BpsWr: 50 * 65536}))
		if c := q.inForce(t); c.IopsWr != 50 || c.BpsRd != own.BpsRd {
			t.Errorf("%+v", c)
		}
		q.stop(t)
		var cancel context.CancelFunc
		m.ctx, cancel = context.WithTimeout(background, 30*time.Millisecond)
		if err := d.Set(background, adapter, migbuf.Limits{IopsWr: 5, BpsWr: 5 * 65536}); !errors.Is(err, migbuf.ErrUnknown) {
			t.Error(err)
		}
		cancel()
		q.resume(t)
		m.ctx = background
		must(t, d.Set(background, adapter, migbuf.Limits{IopsWr: 7, BpsWr: 7 * 65536}))
		if c := q.inForce(t); c.IopsWr != 7 || c.BpsWr != 7*65536 {
			t.Errorf("%+v", c)
		}
		must(t, d.Close())

		d, err = migbuf.LoadDisk(text)
		must(t, err)
		adapter = migbuf.FromLXD(m, isRefusal, disk)
		must(t, d.Pump(background, adapter))
		must(t, d.Restore(background, adapter))
		if q.inForce(t) != before {
			t.Errorf("%+v is in force, not %+v", q.inForce(t), before)
		}
		must(t, d.Close())
	}
}

// A command that nobody hears the answer of is carried out. Where it was not sent, an error says so.
func TestUnheard(t *testing.T) {
	q := emptyQEMU(t)
	giveBack, err := q.takeTurn(background) // another command is under way
	must(t, err)
	ctx, cancel := context.WithCancel(background)
	cancel()
	if err := q.unheard(ctx, "stop"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	giveBack()
	if !q.runs(t) {
		t.Error("it was sent after all")
	}
	must(t, q.unheard(background, "stop"))
	if q.runs(t) {
		t.Error("it was not sent")
	}
}

// An answer that the VM's history cannot use ends no migration.
func TestWaitMigrationGoesOn(t *testing.T) {
	m, p := newPeer(t)
	answers := []string{`"return": {"status": "active"}`, `"return": {"status": "completed"}`}
	p.serve(func(asked) string {
		answer := answers[0]
		answers = answers[1:]
		return answer
	})
	told := 0
	must(t, waitMigration(background, &QEMU{Monitor: m}, func(*migbuf.RAMReport) error { told++; return migbuf.ErrRange }, "completed"))
	if told != 2 {
		t.Error("told", told, "times")
	}
}
