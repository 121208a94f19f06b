// SPDX-License-Identifier: MIT

//go:build cgo

package migbuf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"time"
)

// What a process that starts anew has to know of a Host: one file, so that nothing in it contradicts itself.

// A member more makes another version: an older process does not leave out what it does not know, but says why it cannot
// go on. Version 1 knew no snapshot_ahead, no histories and no attempts; it may have them all the same.
const hostStateVersion = 2

type hostState struct {
	Version    int           `json:"migbuf-host"`
	Buffer     string        `json:"buffer"`
	IntervalMs int64         `json:"interval_ms"`
	LagMs      int64         `json:"lag_ms"`
	Last       uint64        `json:"last"`
	Members    []memberState `json:"members"`

	Attempts []pendingAttempt `json:"attempts,omitempty"`
}

type memberState struct {
	ID       uint64   `json:"id"`
	Name     string   `json:"name"`
	Nodes    []string `json:"nodes"`
	Disk     string   `json:"disk"`
	Link     uint64   `json:"link"`
	Phase    Phase    `json:"phase"`
	Drains   uint32   `json:"drains"`
	InBuffer bool     `json:"in_buffer"`

	SnapshotAhead bool `json:"snapshot_ahead,omitempty"`

	// For its history.
	VM  string       `json:"vm,omitempty"`
	To  string       `json:"to,omitempty"`
	At  AttemptPhase `json:"at,omitempty"`
	Why AttemptWhy   `json:"why,omitempty"`
}

// save writes the state down. The old file stays until the new one is whole. It does not wait for the disk to have it: a
// machine that loses it has lost its QEMUs too.
func (h *Host) save() error {
	h.saving.Lock()
	defer h.saving.Unlock()
	h.mu.Lock()
	s := hostState{Version: hostStateVersion, IntervalMs: h.interval.Milliseconds(), LagMs: h.lag.Milliseconds(), Last: h.last}
	saved := make([]*Member, 0, len(h.members))
	for _, m := range h.members {
		if m.text == "" {
			continue
		}
		saved = append(saved, m)
		p := &m.past
		s.Members = append(s.Members, memberState{m.id, m.name, m.nodes, m.text, m.migration.Link, m.phase, m.drains, m.inBuffer,
			m.snapshotAhead, p.id, p.to, p.at, p.why})
	}
	s.Attempts = append(s.Attempts, h.attempts...)
	var err error
	s.Buffer, err = h.buffer.Save()
	h.mu.Unlock()
	sort.Slice(s.Members, func(i, j int) bool { return s.Members[i].ID < s.Members[j].ID })
	var text []byte
	if err == nil {
		text, err = json.Marshal(s)
	}
	if err == nil {
		err = os.WriteFile(h.config.State+".new", text, 0600)
	}
	if err == nil {
		err = os.Rename(h.config.State+".new", h.config.State)
	}
	if err != nil {
		return &Error{Op: "host_save", Code: ErrSystem, Text: "the state was not saved", Cause: err}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range saved {
		m.kept = true
	}
	return nil
}

func damaged(why string, cause error) error {
	return &Error{Op: "host_load", Code: ErrProtocol, Text: "the state: " + why, Cause: cause}
}

// load takes over what an earlier process left. Without a file, or without a migration in it, there is nothing to take over.
func (h *Host) load() error {
	text, err := os.ReadFile(h.config.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &Error{Op: "host_load", Code: ErrSystem, Text: "the state cannot be read", Cause: err}
	}
	var s hostState
	if err := json.Unmarshal(text, &struct {
		Version *int `json:"migbuf-host"`
	}{&s.Version}); err == nil && s.Version > hostStateVersion {
		return damaged(fmt.Sprintf("it is of version %d, and this process knows %d at most: a newer one has left it", s.Version, hostStateVersion), nil)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		return damaged("it is cut, or edited", err)
	}
	if decoder.More() || s.Version < 1 || s.IntervalMs < 1 || s.LagMs < 1 || s.IntervalMs > 60000 || s.LagMs > 60000 {
		return damaged("it is edited", nil)
	}
	h.last, h.attempts = s.Last, s.Attempts
	if h.config.History == nil {
		h.attempts = nil
	}
	if len(s.Members) == 0 {
		return nil
	}
	if h.config.Monitor == nil {
		return &Error{Op: "host_load", Code: ErrInvalid, Text: "an earlier process has left migrations, and Monitor is nil: nobody can connect to their QEMUs"}
	}
	h.interval, h.lag = time.Duration(s.IntervalMs)*time.Millisecond, time.Duration(s.LagMs)*time.Millisecond
	if h.buffer, err = LoadBuffer(s.Buffer, Clock()); err != nil {
		return damaged("the buffer's", err)
	}
	inBuffer := uint64(0)
	for _, one := range s.Members {
		m := newMember(h, one.Name, len(one.Nodes))
		m.monitor = unasked{}
		m.id, m.nodes, m.text, m.phase, m.drains, m.inBuffer = one.ID, one.Nodes, one.Disk, one.Phase, one.Drains, one.InBuffer
		m.snapshotAhead = one.SnapshotAhead
		m.past = past{prior: NewPrior(unknownRAM), id: one.VM, to: one.To, at: one.At, why: one.Why}
		if m.past.id == "" { // of a version that kept no histories
			m.past.id, m.past.at = m.name, AttemptPhaseBase
		}
		m.migration.ID, m.migration.Link, m.kept, m.orphan, m.connecting = one.ID, one.Link, true, true, true
		if m.disk, err = LoadDisk(one.Disk); err != nil {
			return damaged("a disk's", err)
		}
		_, twice := h.members[m.id]
		if twice || h.named(m.name) != nil || m.id > s.Last || len(m.nodes) == 0 {
			m.disk.Close()
			return damaged("a migration is there twice, or has no disk", nil)
		}
		h.members[m.id] = m
		if m.inBuffer {
			inBuffer++
			if _, err := h.buffer.View(m.id); err != nil {
				return damaged("a migration is not in the buffer", err)
			}
		}
	}
	if stats, err := h.buffer.Stats(); err != nil || stats.Migrations != inBuffer {
		return damaged("the buffer has others", err)
	}
	return nil
}

// patienceOfOne is how long one try lasts to connect to a QEMU and to ask it, where nobody waits for it.
const patienceOfOne = 10 * time.Second

// takeOn connects to the QEMU of a member that an earlier process left, or that is lost.
func (h *Host) takeOn(m *Member) {
	for {
		err := m.connect()
		if err == nil || errors.Is(err, ErrNotFound) {
			h.takenOn(m, err == nil)
			return
		}
		h.complain("A QEMU does not answer: "+m.name, err)
		if !h.sleep() {
			return
		}
	}
}

func (h *Host) takenOn(m *Member, lives bool) {
	if !lives {
		h.config.Log.Info("A migration has no QEMU any more", "vm", m.name)
		h.end(m, 0) // nobody knows whether it has moved
	} else {
		h.config.Log.Info("A migration is taken on", "vm", m.name)
		disk, _ := m.hands()
		if info, err := disk.Info(); err == nil {
			_ = h.buffer.Resync(m.id, info.Limits, !info.Stopped)
		}
	}
	h.mu.Lock()
	m.connecting = false
	again := m.isReady
	m.isReady = true
	out := !m.inBuffer
	h.mu.Unlock()
	if !again {
		close(m.ready)
	}
	if lives && out {
		h.leave(m) // only its limits were not given back yet
	}
}

// lose has a member taken on again, when nobody's migration function is at work and its connection is of no use any more.
func (h *Host) lose(m *Member) {
	h.mu.Lock()
	lost := m.orphan && !m.connecting && m.leaving == nil && !m.over && h.config.Monitor != nil
	if lost {
		m.connecting, m.monitor = true, unasked{}
	}
	h.mu.Unlock()
	if lost {
		h.spawn(func() { h.takeOn(m) })
	}
}

// unasked stands for a QEMU that was not asked yet: nothing is sent, and nobody knows what is in force.
type unasked struct{}

func (unasked) Run(context.Context, string, any, any) error {
	return &Error{Op: "host_connect", Code: ErrUnknown, Text: "QEMU was not asked yet"}
}

// connect gets a monitor from the daemon, and asks what is in force. ErrNotFound of the daemon's: there is no such QEMU.
func (m *Member) connect() error {
	ctx, cancel := context.WithTimeout(m.host.ctx, patienceOfOne)
	defer cancel()
	monitor, err := m.host.config.Monitor(ctx, m.name)
	if err == nil && monitor == nil {
		err = &Error{Op: "host_open", Code: ErrInvalid, Text: "HostConfig.Monitor gave neither a monitor nor an error"}
	}
	if err != nil {
		return err
	}
	m.host.mu.Lock()
	text, over := m.text, m.over
	m.host.mu.Unlock()
	if over {
		return nil
	}
	disk, err := LoadDisk(text) // a new one: a Run that never returns would hold up the old
	if err != nil {
		return err
	}
	if err = disk.Pump(ctx, monitor); err != nil {
		disk.Close()
		if errors.Is(err, ErrNotFound) {
			err = &Error{Op: "host_connect", Code: ErrState, Text: "a disk of it is not there"}
		}
		return err
	}
	if err = m.enter(ctx, "host_connect"); err != nil {
		disk.Close()
		return err
	}
	defer m.leaveGuest()
	m.host.mu.Lock()
	if m.over || m.text != text { // it has ended, or the old one was told something that the new one does not know
		m.host.mu.Unlock()
		disk.Close()
		return &Error{Op: "host_connect", Code: ErrUnknown, Text: "it has changed meanwhile: asked again"}
	}
	disk.SaveWith(m.saveText)
	old := m.disk
	m.disk, m.monitor, m.mute, m.looking = disk, monitor, false, make(chan struct{}, 1)
	m.host.mu.Unlock()
	old.Close()
	return nil
}

// saveText keeps a disk's text with the state, before the next command is sent.
func (m *Member) saveText(ctx context.Context, text string) error {
	m.host.mu.Lock()
	before := m.text
	m.text = text
	_, there := m.host.members[m.id]
	there = there && m.id != 0
	m.host.mu.Unlock()
	if !there {
		return nil // the tick that sets its first limit saves it, or sets none
	}
	err := m.host.save()
	if err != nil {
		m.host.mu.Lock()
		m.text = before
		m.host.mu.Unlock()
	}
	return err
}
