// SPDX-License-Identifier: MIT

package migbuf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeDisk is one device.
type fakeDisk struct {
	node, qdev, group string // group "": not throttled
}

// fakeQEMU has the commands of a throttle and what they do: limits belong to groups, a disk without a limit is in none.
// What becomes of an answer is a monitor's business, see below.
type fakeQEMU struct {
	mu      sync.Mutex
	disks   []fakeDisk
	groups  map[string]ThrottleConfig
	objects map[string]bool
	running bool
	refuses map[string]bool // these commands, or "command device"
	said    []string        // commands carried out or refused, in their order
	tops    map[string]top  // what lies on a device's disk, by qdev
}

// top is an overlay.
type top struct {
	node string
	file *os.File
}

// newQEMU has one disk, n0, with these limits of the host's.
func newQEMU(host ThrottleConfig) *fakeQEMU {
	q := &fakeQEMU{disks: []fakeDisk{{"n0", "dev-n0", host.Group}}, groups: map[string]ThrottleConfig{}, objects: map[string]bool{},
		running: true, refuses: map[string]bool{}, tops: map[string]top{}}
	if host.Group != "" {
		q.groups[host.Group] = host
	}
	return q
}

func (q *fakeQEMU) config(d fakeDisk) ThrottleConfig {
	c := q.groups[d.group]
	c.Group = d.group
	return c
}

// inForce is what query-block shows of the first disk.
func (q *fakeQEMU) inForce() ThrottleConfig {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.config(q.disks[0])
}

func (q *fakeQEMU) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.said)
}

type qemuError string

func (e qemuError) Error() string { return string(e) }

// carryOut does what a command says. Its errors are QEMU's own answers.
func (q *fakeQEMU) carryOut(command string, args any, resp any) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.said = append(q.said, command)
	text := mustJSON(args)
	var a struct {
		ID       string `json:"id"`
		Path     string `json:"path"`
		Property string `json:"property"`
		Value    map[string]uint64
	}
	_ = json.Unmarshal(text, &a)
	if q.refuses[command] || q.refuses[command+" "+a.ID] {
		return qemuError("GenericError: refused, as the test wants it")
	}
	switch command {
	case "query-block":
		entries := []string{`{"device": "cd", "qdev": "ide0"}`}
		for _, d := range q.disks {
			node, size := q.onTop(d)
			entries = append(entries, fmt.Sprintf(`{"qdev": %q, "inserted": {"node-name": %q, "ro": false, "image": {"actual-size": %d}, %s}}`,
				d.qdev, node, size, strings.Trim(string(mustJSON(q.config(d))), "{}")))
		}
		return answerWith(resp, "["+strings.Join(entries, ",")+"]")
	case "query-blockstats":
		entries := []string{}
		for _, d := range q.disks {
			node, size := q.onTop(d)
			entries = append(entries, fmt.Sprintf(`{"qdev": %q, "node-name": %q, "stats": {"wr_bytes": %d, "wr_operations": %d}}`,
				d.qdev, node, size+65536, size/65536+1))
		}
		return answerWith(resp, "["+strings.Join(entries, ",")+"]")
	case "query-status":
		status := map[bool]string{true: "running", false: "paused"}[q.running]
		return answerWith(resp, fmt.Sprintf(`{"running": %v, "singlestep": false, "status": %q}`, q.running, status))
	case "stop", "cont":
		q.running = command == "cont"
		return nil
	case "object-add":
		if q.objects[a.ID] {
			return qemuError("GenericError: attempt to add duplicate property '" + a.ID + "' to object")
		}
		q.objects[a.ID] = true
		q.groups[a.ID] = ThrottleConfig{}
		return nil
	case "object-del":
		for _, d := range q.disks {
			if d.group == a.ID {
				return qemuError("GenericError: object '" + a.ID + "' is in use, can not be deleted")
			}
		}
		if !q.objects[a.ID] {
			return qemuError("GenericError: object '" + a.ID + "' not found")
		}
		delete(q.objects, a.ID)
		delete(q.groups, a.ID)
		return nil
	case "qom-set":
		group := strings.TrimPrefix(a.Path, "/objects/")
		if !q.objects[group] {
			return qemuError("DeviceNotFound: Device '" + a.Path + "' not found")
		}
		q.groups[group] = ThrottleConfig{IopsWr: a.Value["iops-write"], IopsSize: a.Value["iops-size"], BpsWr: a.Value["bps-write"],
			BpsRd: a.Value["bps-read"], IopsRd: a.Value["iops-read"]}
		return nil
	case "block_set_io_throttle":
		return q.throttle(text)
	}
	return qemuError("CommandNotFound: The command " + command + " has not been found")
}

// onTop is the node that a device sees, and what its file weighs.
func (q *fakeQEMU) onTop(d fakeDisk) (node string, bytes uint64) {
	if t, ok := q.tops[d.qdev]; ok {
		bytes, _ = CowFileBytes(t.file)
		return t.node, bytes
	}
	return d.node, 1 << 30
}

// snapshot puts a file of its own, a duplicate, on top of each disk; merge takes it away.
func (q *fakeQEMU) snapshot(node string, file *os.File) error {
	own, err := duplicate("test", file)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tops[q.disks[0].qdev] = top{node, own}
	return err
}

func (q *fakeQEMU) merge() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t, ok := q.tops[q.disks[0].qdev]; ok {
		t.file.Close()
		delete(q.tops, q.disks[0].qdev)
	}
}

func (q *fakeQEMU) runs() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running
}

func (q *fakeQEMU) throttle(text []byte) error {
	var a struct {
		ID string `json:"id"`
		ThrottleConfig
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return qemuError("GenericError: " + err.Error())
	}
	for i := range q.disks {
		d := &q.disks[i]
		if d.qdev != a.ID {
			continue
		}
		limits := a.ThrottleConfig
		limits.Group = ""
		switch {
		case limits == ThrottleConfig{}:
			d.group = ""
			return nil
		case a.Group != "":
			d.group = a.Group
		case d.group == "":
			d.group = d.qdev
		}
		q.groups[d.group] = limits
		return nil
	}
	return qemuError("GenericError: Device '" + a.ID + "' not found")
}

func answerWith(resp any, value string) error {
	if resp == nil {
		return nil
	}
	return json.Unmarshal([]byte(`{"return": `+value+`, "id": 1}`), resp)
}

func mustJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

func refusedByQEMU(err error) bool {
	var e qemuError
	return errors.As(err, &e)
}

// Run is a monitor whose answers always come.
func (q *fakeQEMU) Run(_ context.Context, command string, args any, resp any) error {
	return marked(q.carryOut(command, args, resp), refusedByQEMU)
}

// What can become of a command whose answer does not come.
type fate int

const (
	landed fate = iota // it was carried out
	never              // it was not, and never will be
	late               // it will be, before the next one is
)

func (f fate) String() string { return text([]string{"landed", "never", "late"}, int(f)) }

var errNoAnswer = errors.New("the monitor gave no answer")

// faulty loses the answers to some commands.
type faulty struct {
	q       *fakeQEMU
	fate    fate
	at, n   int // the first command concerned, and how many
	sent    int
	lost    string // the last one concerned
	waiting []func()
}

func (m *faulty) Run(ctx context.Context, command string, args any, resp any) error {
	for _, carryOut := range m.waiting {
		carryOut()
	}
	m.waiting = nil
	m.sent++
	if k := m.sent - 1; k < m.at || k >= m.at+m.n {
		return m.q.Run(ctx, command, args, resp)
	}
	m.lost = command
	switch m.fate {
	case landed:
		_ = m.q.carryOut(command, args, resp)
	case late:
		m.waiting = append(m.waiting, func() { _ = m.q.carryOut(command, args, nil) })
	}
	return errNoAnswer
}

// fakeClock is moved by the test.
type fakeClock struct {
	mu     sync.Mutex
	moved  *sync.Cond
	now    time.Duration
	timers map[chan struct{}]time.Duration
}

func newClock() *fakeClock {
	c := &fakeClock{timers: map[chan struct{}]time.Duration{}}
	c.moved = sync.NewCond(&c.mu)
	return c
}

func (c *fakeClock) after(d time.Duration) (expired <-chan struct{}, stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := make(chan struct{})
	c.timers[t] = c.now + d
	c.moved.Broadcast()
	return t, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, t)
	}
}

// somebodyWaits waits until there is a timer, and tells how long it still has to go.
func (c *fakeClock) somebodyWaits() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.timers) == 0 {
		c.moved.Wait()
	}
	least := time.Duration(1 << 62)
	for _, at := range c.timers {
		if at-c.now < least {
			least = at - c.now
		}
	}
	return least
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
	for t, at := range c.timers {
		if at <= c.now {
			delete(c.timers, t)
			close(t)
		}
	}
}

// clock tells a monitor that a time-out has passed.
type clock interface {
	after(time.Duration) (expired <-chan struct{}, stop func())
}

// wallClock is the machine's.
type wallClock struct{}

func (wallClock) after(d time.Duration) (expired <-chan struct{}, stop func()) {
	c := make(chan struct{})
	timer := time.AfterFunc(d, func() { close(c) })
	return c, func() { timer.Stop() }
}

// incus is a monitor as Incus has it: no contexts, one command at a time, a time-out for each kind of command, late answers
// dropped. QEMU takes the commands in their order, unless it hangs, and what was sent it does later.
type incus struct {
	q        *fakeQEMU
	clock    clock
	one      sync.Mutex
	ended    bool       // of one
	hangs    sync.Mutex // held by the test: QEMU does nothing
	commands chan func()
	asked    chan struct{} // something was asked, perhaps while it hangs
}

func newIncus(t *testing.T, q *fakeQEMU, clock clock) *incus {
	m := &incus{q: q, clock: clock, commands: make(chan func(), 1000), asked: make(chan struct{}, 1000)}
	go func() {
		for carryOut := range m.commands {
			m.hangs.Lock()
			carryOut()
			m.hangs.Unlock()
		}
	}()
	t.Cleanup(func() {
		m.one.Lock()
		defer m.one.Unlock()
		m.ended = true
		close(m.commands)
	})
	return m
}

// hasDone waits until QEMU has worked off what it was sent.
func (m *incus) hasDone() {
	done := make(chan struct{})
	m.commands <- func() { close(done) }
	<-done
}

var incusTimeouts = map[string]time.Duration{"block_set_io_throttle": 5 * time.Second, "object-add": 30 * time.Second,
	"stop": 30 * time.Second, "cont": 30 * time.Second}

var errMonitorTimeout = errors.New("Monitor command timed out")

func (m *incus) Run(command string, args any, resp any) error {
	m.one.Lock()
	defer m.one.Unlock()
	if m.ended { // who waited for his turn meanwhile
		return errors.New("Monitor is disconnected")
	}
	timeout, ok := incusTimeouts[command]
	if !ok {
		timeout = 500 * time.Millisecond
	}
	type reply struct {
		raw json.RawMessage
		err error
	}
	answered := make(chan reply, 1)
	m.commands <- func() {
		var r reply
		r.err = m.q.carryOut(command, args, &r.raw)
		answered <- r
	}
	select {
	case m.asked <- struct{}{}:
	default:
	}
	expired, stop := m.clock.after(timeout)
	defer stop()
	select {
	case r := <-answered:
		if r.err != nil || resp == nil {
			return r.err
		}
		return json.Unmarshal(r.raw, resp)
	case <-expired:
		return fmt.Errorf("%w: %q after %s", errMonitorTimeout, command, timeout)
	}
}
