// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"migbuf.example/migbuf"
)

// Monitor is a host's own QMP connection, built the way LXD and Incus build theirs: one reader goroutine, one command at a
// time, lines of at most 64 KiB, replies found by id, a time-out for each kind of command. It is all that migbuf needs of a
// host: see Run.
type Monitor struct {
	conn    *net.UnixConn
	turn    chan struct{} // one command at a time: a mutex that a context can end waiting for
	timeout func(command string) time.Duration
	mu      sync.Mutex
	waiting map[uint32]chan reply
	lost    error
	id      uint32
	noSpace int32 // BLOCK_IO_ERROR events seen
}

type reply struct {
	line []byte
	err  error
}

// refusal is QEMU's own answer. It matches migbuf.ErrPeer: so migbuf tells it from all other errors, after which nobody
// knows whether a command was or will be carried out.
type refusal struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (r *refusal) Error() string        { return r.Class + ": " + r.Desc }
func (r *refusal) Is(target error) bool { return target == migbuf.ErrPeer }

// patient has time for a busy machine.
func patient(string) time.Duration { return 30 * time.Second }

// asIncus has the time-outs of Incus 7 for what migbuf sends.
func asIncus(command string) time.Duration {
	switch command {
	case "block_set_io_throttle":
		return 5 * time.Second
	case "stop", "cont", "object-add":
		return 30 * time.Second
	}
	return 500 * time.Millisecond
}

// errUnreadable: nobody knows what became of the command.
var errUnreadable = errors.New("an answer that is neither a return nor an error")

// connect waits for the socket of a QEMU that was just started.
func connect(path string) (*Monitor, error) { return connectWithin(path, patient("")) }

// connectWithin gives QEMU so long for its greeting: it greets nobody while another client holds the monitor.
func connectWithin(path string, greeting time.Duration) (*Monitor, error) {
	var conn net.Conn
	var err error
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if conn, err = net.Dial("unix", path); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return nil, err
		}
	}
	m := &Monitor{conn: conn.(*net.UnixConn), turn: make(chan struct{}, 1), timeout: patient, waiting: map[uint32]chan reply{}}
	scanner := bufio.NewScanner(m.conn) // its default of 64 KiB is the bound on a line
	_ = m.conn.SetReadDeadline(time.Now().Add(greeting))
	if !scanner.Scan() {
		m.conn.Close()
		return nil, errors.New("no greeting: another client holds the monitor")
	}
	var said struct {
		QMP *struct{} `json:"QMP"`
	}
	if json.Unmarshal(scanner.Bytes(), &said) != nil || said.QMP == nil {
		m.conn.Close()
		return nil, errors.New("the peer does not speak QMP")
	}
	_ = m.conn.SetReadDeadline(time.Time{})
	go m.read(scanner)
	if err = m.Run(context.Background(), "qmp_capabilities", nil, nil); err != nil {
		m.conn.Close()
		return nil, err
	}
	return m, nil
}

// judge tells what an answer is: a return, QEMU's own error, or neither.
func judge(answer, refused json.RawMessage) error {
	var said refusal
	switch {
	case (answer != nil) == (refused != nil):
		return errUnreadable
	case refused == nil:
		return nil
	case json.Unmarshal(refused, &said) != nil || said.Class == "":
		return errUnreadable
	}
	return &said
}

func (m *Monitor) read(scanner *bufio.Scanner) {
	for scanner.Scan() {
		var head struct {
			ID     *uint32         `json:"id"`
			Event  string          `json:"event"`
			Return json.RawMessage `json:"return"`
			Error  json.RawMessage `json:"error"`
		}
		if json.Unmarshal(scanner.Bytes(), &head) != nil {
			continue
		}
		if head.Event == "BLOCK_IO_ERROR" {
			if atomic.AddInt32(&m.noSpace, 1) == 1 {
				say("%s", scanner.Text())
			}
		}
		if head.ID == nil {
			continue
		}
		r := reply{append([]byte(nil), scanner.Bytes()...), judge(head.Return, head.Error)}
		m.mu.Lock()
		if c, ok := m.waiting[*head.ID]; ok { // else nobody waits for it any more
			delete(m.waiting, *head.ID)
			c <- r
		}
		m.mu.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = errors.New("the monitor is disconnected")
	for id, c := range m.waiting {
		delete(m.waiting, id)
		c <- reply{err: m.lost}
	}
}

// Run sends a command and waits for its answer: a migbuf.Monitor. When it has returned, the command was sent or never will
// be.
func (m *Monitor) Run(ctx context.Context, command string, args any, resp any) error {
	return m.run(ctx, command, args, resp, nil)
}

// run can send a file along.
func (m *Monitor) run(ctx context.Context, command string, args any, resp any, file *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout(command))
	defer cancel()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	giveBack, err := m.takeTurn(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	defer giveBack()
	id, c, err := m.expect()
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	defer m.expectNoMore(id)
	if err := m.send(ctx, id, command, args, file); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	select {
	case r := <-c:
		if r.err != nil {
			return fmt.Errorf("%s: %w", command, r.err)
		}
		if resp == nil {
			return nil
		}
		return json.Unmarshal(r.line, resp)
	case <-ctx.Done():
		return fmt.Errorf("%s: no answer: %w", command, ctx.Err())
	}
}

// takeTurn waits until no other command is under way.
func (m *Monitor) takeTurn(ctx context.Context) (giveBack func(), err error) {
	select {
	case m.turn <- struct{}{}:
		return func() { <-m.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *Monitor) expect() (uint32, <-chan reply, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lost != nil {
		return 0, nil, m.lost
	}
	m.id++
	c := make(chan reply, 1)
	m.waiting[m.id] = c
	return m.id, c, nil
}

func (m *Monitor) expectNoMore(id uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.waiting, id)
}

// send writes one line, all of it: with a part of one on the wire the connection would be of no use. One of which nothing was
// written, because its time was over, has done no harm.
func (m *Monitor) send(ctx context.Context, id uint32, command string, args any, file *os.File) error {
	line, err := json.Marshal(struct {
		ID        uint32 `json:"id"`
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{id, command, args})
	if err != nil {
		return err
	}
	line = append(line, '\n')
	var rights []byte
	if file != nil {
		rights = syscall.UnixRights(int(file.Fd()))
	}
	deadline, _ := ctx.Deadline()
	_ = m.conn.SetWriteDeadline(deadline)
	sent, _, err := m.conn.WriteMsgUnix(line, rights, nil)
	if err == nil && sent < len(line) { // a message may be taken in part, a Write never is
		_, err = m.conn.Write(line[sent:])
	}
	if err != nil && sent > 0 {
		m.conn.Close()
	}
	return err
}

// setCapabilities switches on what LXD wants of a source, as far as this QEMU has it: QEMU is asked, not its version.
func (m *Monitor) setCapabilities(ctx context.Context) error {
	var known struct {
		Return []struct {
			Capability string `json:"capability"`
		} `json:"return"`
	}
	if err := m.Run(ctx, "query-migrate-capabilities", nil, &known); err != nil {
		return err
	}
	has := map[string]bool{}
	for _, c := range known.Return {
		has[c.Capability] = true
	}
	if !has["pause-before-switchover"] {
		return errors.New("this QEMU has no capability pause-before-switchover")
	}
	wanted := []args{}
	for _, name := range []string{"auto-converge", "pause-before-switchover", "zero-blocks"} {
		if has[name] {
			wanted = append(wanted, args{"capability": name, "state": true})
		}
	}
	return m.Run(ctx, "migrate-set-capabilities", args{"capabilities": wanted}, nil)
}

func (m *Monitor) ioErrors() int { return int(atomic.LoadInt32(&m.noSpace)) }

// Close hangs up; QEMU goes on.
func (m *Monitor) Close() error { return m.conn.Close() }
