// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Monitor is a host's own QMP connection, built the way LXD and Incus build theirs: one reader goroutine, one command at a
// time, lines of at most 64 KiB, replies found by id. It is all that migbuf needs of a host: see Run.
type Monitor struct {
	conn    *net.UnixConn
	command sync.Mutex // one command at a time
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

type refusal struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (r *refusal) Error() string { return r.Class + ": " + r.Desc }

const commandTimeout = 30 * time.Second

// connect waits for the socket of a QEMU that was just started.
func connect(path string) (*Monitor, error) {
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
	m := &Monitor{conn: conn.(*net.UnixConn), waiting: map[uint32]chan reply{}}
	scanner := bufio.NewScanner(m.conn) // its default of 64 KiB is the bound on a line
	if !scanner.Scan() {
		return nil, errors.New("no greeting: another client holds the monitor")
	}
	go m.read(scanner)
	return m, m.Run("qmp_capabilities", nil, nil)
}

func (m *Monitor) read(scanner *bufio.Scanner) {
	for scanner.Scan() {
		var head struct {
			ID    *uint32  `json:"id"`
			Event string   `json:"event"`
			Error *refusal `json:"error"`
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
		r := reply{line: append([]byte(nil), scanner.Bytes()...)}
		if head.Error != nil {
			r.err = head.Error
		}
		m.mu.Lock()
		if c, ok := m.waiting[*head.ID]; ok {
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

// Run sends a command and waits for its answer: a migbuf.Monitor.
func (m *Monitor) Run(command string, args any, resp any) error {
	return m.run(command, args, resp, nil)
}

// run can send a file along.
func (m *Monitor) run(command string, args any, resp any, file *os.File) error {
	m.command.Lock()
	defer m.command.Unlock()
	c := make(chan reply, 1)
	m.mu.Lock()
	if m.lost != nil {
		m.mu.Unlock()
		return m.lost
	}
	m.id++
	id := m.id
	m.waiting[id] = c
	m.mu.Unlock()
	line, err := json.Marshal(struct {
		ID        uint32 `json:"id"`
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{id, command, args})
	if err != nil {
		return err
	}
	var rights []byte
	if file != nil {
		rights = syscall.UnixRights(int(file.Fd()))
	}
	if _, _, err := m.conn.WriteMsgUnix(append(line, '\n'), rights, nil); err != nil {
		return err
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
	case <-time.After(commandTimeout):
		m.mu.Lock()
		delete(m.waiting, id)
		m.mu.Unlock()
		return fmt.Errorf("%s: no answer in %v", command, commandTimeout)
	}
}

// setCapabilities switches on what LXD wants of a source, as far as this QEMU has it: QEMU is asked, not its version.
func (m *Monitor) setCapabilities() error {
	var known struct {
		Return []struct {
			Capability string `json:"capability"`
		} `json:"return"`
	}
	if err := m.Run("query-migrate-capabilities", nil, &known); err != nil {
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
	return m.Run("migrate-set-capabilities", args{"capabilities": wanted}, nil)
}

func (m *Monitor) ioErrors() int { return int(atomic.LoadInt32(&m.noSpace)) }

// Close hangs up; QEMU goes on.
func (m *Monitor) Close() { m.conn.Close() }
