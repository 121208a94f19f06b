// SPDX-License-Identifier: MIT

package migbuf

// #include <stdlib.h>
// #include <migbuf/migbuf.h>
import "C"

import (
	"context"
	"encoding/json"
	"unsafe"
)

// Monitor is a host's own QMP connection: one command, its answer. resp, where it is not nil, gets the whole reply, the
// value under "return". Incus' *qmp.Monitor is one as it stands; for LXD's see [FromLXD].
type Monitor interface {
	Run(command string, args any, resp any) error
}

// CommandKind tells what a Command is for.
type CommandKind int32

// Kinds.
const (
	Query      CommandKind = C.MIGBUF_DISK_QUERY    // query-block: Found for every entry, then Done
	AddGroup   CommandKind = C.MIGBUF_DISK_ADD      // object-add throttle-group
	SetDisk    CommandKind = C.MIGBUF_DISK_THROTTLE // block_set_io_throttle
	SetGroup   CommandKind = C.MIGBUF_DISK_LIMITS   // qom-set on the group
	DeleteGone CommandKind = C.MIGBUF_DISK_DELETE   // object-del
)

// Command is one QMP command to send.
type Command struct {
	Kind      CommandKind
	Name      string          // as in {"execute": Name}
	Arguments json.RawMessage // nil for none
}

// DiskInfo is where a VM's throttle stands.
type DiskInfo struct {
	CommandsSent uint64 // commands that changed something in QEMU: each costs at most one request
	Limits       Limits // ours in force, zero when none
	Learnt       bool   // every watched node was found
	Throttled    bool   // our limits are in force on every disk
	Restored     bool   // the host's limits are in force again
	Plain        bool   // no group object: lowering wakes one request, too
	TakenOver    int    // how often another hand changed the limits and was seen doing so
	Failed       bool   // QEMU refused what there is no other way for
}

// Disk is the throttle of one VM's disks: it knows which QMP command comes next, and sends it through the host's monitor.
// Its methods may be called by several goroutines; those with a context wait for one another no longer than that.
// A nil Monitor sends nothing: what is wanted is noted, and the host asks Next for the commands.
//
// When a context ends while the monitor has not answered, the command is not lost: the method returns with the context's
// error, and the next one with a context takes the answer first.
type Disk struct {
	turn    chan struct{} // a mutex that a context can end waiting for
	d       *C.struct_migbuf_disk
	pending chan answer // of a command that was sent and not waited for to its end
	errand  bool        // it is a stop or cont of Apply's, none of the library's
}

type blockEntry struct {
	QDev     string `json:"qdev"`
	Inserted *struct {
		NodeName string `json:"node-name"`
		ThrottleConfig
	} `json:"inserted"`
}

type answer struct {
	err    error
	blocks []blockEntry
}

// NewDisk makes a throttle for the disks of one VM. group names the throttle-group object, unique in that QEMU; nodes are
// the top nodes of the disks now.
func NewDisk(group string, nodes ...string) (*Disk, error) {
	d := &Disk{turn: make(chan struct{}, 1)}
	g := C.CString(group)
	defer C.free(unsafe.Pointer(g))
	if err := failed("disk_new", C.migbuf_disk_new(g, nil, &d.d)); err != nil {
		return nil, err
	}
	for _, node := range nodes {
		if err := d.Watch(node); err != nil {
			d.Close()
			return nil, err
		}
	}
	return d, nil
}

// LoadDisk makes a throttle from the text that Save gave, in a process that started anew: its first command asks QEMU what
// is in force, and Restore brings back what was saved.
func LoadDisk(text string) (*Disk, error) {
	d := &Disk{turn: make(chan struct{}, 1)}
	t := []byte(text)
	if err := failed("disk_load", C.migbuf_disk_load((*C.char)(at(t)), C.size_t(len(t)), nil, &d.d)); err != nil {
		return nil, err
	}
	return d, nil
}

// Typed says that the monitor can only set six rates, as [FromLXD]: before Learn. No group is made then, so each disk has a
// bucket of its own. Give the disks' [Geometry] the flag [NoIopsSize].
func (d *Disk) Typed() error {
	d.lock()
	defer d.unlock()
	return failed("disk_typed", C.migbuf_disk_typed(d.d))
}

func (d *Disk) lock()   { d.turn <- struct{}{} }
func (d *Disk) unlock() { <-d.turn }

// Close frees the throttle. It sends nothing: Restore first. Twice is fine.
func (d *Disk) Close() {
	d.lock()
	defer d.unlock()
	C.migbuf_disk_free(d.d)
	d.d = nil
}

// Watch adds a disk by the node name of what its device sees now.
func (d *Disk) Watch(node string) error {
	d.lock()
	defer d.unlock()
	n := C.CString(node)
	defer C.free(unsafe.Pointer(n))
	return failed("disk_watch", C.migbuf_disk_watch(d.d, n))
}

// Learn asks QEMU what is in force: first to learn devices and host limits, later to verify. Another hand's change is
// noticed then: what was found becomes what Restore brings back, and ours is set again.
func (d *Disk) Learn(ctx context.Context, m Monitor) error {
	return d.want(ctx, m, "disk_learn", func() C.int { return C.migbuf_disk_learn(d.d) })
}

// Set puts these limits into force. One that is in force already is not sent again.
func (d *Disk) Set(ctx context.Context, m Monitor, limits Limits) error {
	return d.want(ctx, m, "disk_set", func() C.int {
		return C.migbuf_disk_set(d.d, (*C.struct_migbuf_limits)(unsafe.Pointer(&limits)))
	})
}

// Again sets the limits in force once more: a request that waits for what QEMU's bucket owes goes on.
func (d *Disk) Again(ctx context.Context, m Monitor) error {
	return d.want(ctx, m, "disk_again", func() C.int { return C.migbuf_disk_again(d.d) })
}

// Restore brings the host's own limits back. Fine when nothing was ever set.
func (d *Disk) Restore(ctx context.Context, m Monitor) error {
	return d.want(ctx, m, "disk_restore", func() C.int { return C.migbuf_disk_restore(d.d) })
}

// Apply carries out a decision: sets limits, stops the guest, lets it run. After an error tell the buffer: [Buffer.Refused].
func (d *Disk) Apply(ctx context.Context, m Monitor, decision Decision) error {
	if decision.Action == Keep {
		return nil
	}
	if decision.Action.Stops() {
		return d.run(ctx, m, "stop")
	}
	if decision.Action == Again {
		return d.Again(ctx, m)
	}
	err := d.Set(ctx, m, decision.Limits)
	if err == nil && decision.Action == Resume {
		err = d.run(ctx, m, "cont")
	}
	return err
}

// Pump goes on with what a method that was interrupted had begun. Nothing to do: nil.
func (d *Disk) Pump(ctx context.Context, m Monitor) error {
	return d.want(ctx, m, "disk_next", func() C.int { return 0 })
}

func (d *Disk) want(ctx context.Context, m Monitor, op string, call func() C.int) error {
	if err := d.enter(ctx, op); err != nil {
		return err
	}
	defer d.unlock()
	if err := failed(op, call()); err != nil || m == nil {
		return err
	}
	for {
		command, ok, err := d.next()
		if err != nil || !ok {
			return err
		}
		if d.pending == nil {
			if err := d.send(ctx, op, false, func() answer { return ask(m, command) }); err != nil {
				return err
			}
		}
		if err := d.settle(ctx, op); err != nil {
			return err
		}
	}
}

// run sends stop or cont, which the library does not know of. Nothing overtakes a command that was not answered yet.
func (d *Disk) run(ctx context.Context, m Monitor, command string) error {
	if err := d.enter(ctx, command); err != nil {
		return err
	}
	defer d.unlock()
	if d.d == nil || m == nil {
		return &Error{Op: command, Code: ErrInvalid}
	}
	if d.pending != nil { // how it went was its own sender's to tell, who was interrupted; Info tells
		_ = d.settle(ctx, command)
	}
	if err := d.send(ctx, command, true, func() answer { return answer{err: m.Run(command, nil, nil)} }); err != nil {
		return err
	}
	select {
	case a := <-d.pending:
		d.pending = nil
		if a.err != nil {
			return &Error{Op: command, Code: ErrPeer, Cause: a.err}
		}
		return nil
	case <-ctx.Done():
		return interrupted(command, ctx)
	}
}

func (d *Disk) enter(ctx context.Context, op string) error {
	select {
	case d.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return interrupted(op, ctx)
	}
}

func interrupted(op string, ctx context.Context) error {
	return &Error{Op: op, Code: ErrTimeout, Text: "interrupted", Cause: ctx.Err()}
}

// send begins a command, when none is on its way.
func (d *Disk) send(ctx context.Context, op string, errand bool, ask func() answer) error {
	if ctx.Err() != nil {
		return interrupted(op, ctx)
	}
	pending := make(chan answer, 1)
	d.pending, d.errand = pending, errand
	go func() { pending <- ask() }()
	return nil
}

// settle waits for the answer to the command that is on its way, and tells the library when it was the library's.
func (d *Disk) settle(ctx context.Context, op string) error {
	select {
	case a := <-d.pending:
		d.pending = nil
		if d.errand {
			return nil
		}
		return d.take(op, a)
	case <-ctx.Done():
		return interrupted(op, ctx)
	}
}

func ask(m Monitor, command Command) (a answer) {
	var args any
	if command.Arguments != nil {
		args = command.Arguments
	}
	if command.Kind != Query {
		return answer{err: m.Run(command.Name, args, nil)}
	}
	var reply struct {
		Return []blockEntry `json:"return"`
	}
	a.err = m.Run(command.Name, args, &reply)
	a.blocks = reply.Return
	return a
}

func (d *Disk) take(op string, a answer) error {
	if a.err != nil {
		if rc := C.migbuf_disk_failed(d.d); rc < 0 {
			return &Error{Op: op, Code: Code(rc), Cause: a.err}
		}
		return nil // there is another way
	}
	for _, entry := range a.blocks {
		if entry.QDev == "" || entry.Inserted == nil {
			continue
		}
		if _, err := d.found(entry.Inserted.NodeName, entry.QDev, entry.Inserted.ThrottleConfig); err != nil {
			return err
		}
	}
	return failed(op, C.migbuf_disk_done(d.d))
}

// The machine underneath, for a host that sends commands in a way of its own: Next, then Found for each disk of a Query
// and Done, or Failed, until Next says that there is nothing to do.

// Next is the next command, or false when there is nothing to do. The same one until Done or Failed is said.
func (d *Disk) Next() (Command, bool, error) {
	d.lock()
	defer d.unlock()
	return d.next()
}

func (d *Disk) next() (Command, bool, error) {
	var c C.struct_migbuf_disk_command
	rc := C.migbuf_disk_next(d.d, &c)
	if rc <= 0 {
		return Command{}, false, failed("disk_next", rc)
	}
	command := Command{Kind: CommandKind(c.kind), Name: C.GoString(c.name)}
	if c.arguments != nil {
		command.Arguments = json.RawMessage(C.GoString(c.arguments))
	}
	return command, true, nil
}

// Found is part of the answer to Query: one entry of query-block. It tells whether it is one of ours.
func (d *Disk) Found(node, qdev string, config ThrottleConfig) (bool, error) {
	d.lock()
	defer d.unlock()
	return d.found(node, qdev, config)
}

func (d *Disk) found(node, qdev string, config ThrottleConfig) (bool, error) {
	var c C.struct_migbuf_throttle_config
	if !config.toC(&c) {
		return false, &Error{Op: "disk_found", Code: ErrTooBig, Text: "the group's name is longer than 255 bytes"}
	}
	n, q := C.CString(node), C.CString(qdev)
	defer C.free(unsafe.Pointer(n))
	defer C.free(unsafe.Pointer(q))
	rc := C.migbuf_disk_found(d.d, n, q, &c)
	return rc == 1, failed("disk_found", rc)
}

// Done says that the command succeeded.
func (d *Disk) Done() error {
	d.lock()
	defer d.unlock()
	return failed("disk_done", C.migbuf_disk_done(d.d))
}

// Failed says that QEMU answered with an error; nil when there is another way.
func (d *Disk) Failed() error {
	d.lock()
	defer d.unlock()
	return failed("disk_failed", C.migbuf_disk_failed(d.d))
}

// Save gives the host's own limits of every disk as text, to be kept where a restarted host finds it. After Learn, before
// the first Set, and again when Info tells of another hand.
func (d *Disk) Save() (string, error) {
	d.lock()
	defer d.unlock()
	return saved("disk_save", func(text *C.char, capacity C.size_t, length *C.size_t) C.int {
		return C.migbuf_disk_save(d.d, text, capacity, length)
	})
}

// Info tells where it stands.
func (d *Disk) Info() (DiskInfo, error) {
	d.lock()
	defer d.unlock()
	i := C.struct_migbuf_disk_info{size: C.sizeof_struct_migbuf_disk_info}
	rc := C.migbuf_disk_info(d.d, &i)
	return DiskInfo{
		CommandsSent: uint64(i.commands_sent), Limits: *(*Limits)(unsafe.Pointer(&i.limits)), Learnt: i.learnt != 0,
		Throttled: i.throttled != 0, Restored: i.restored != 0, Plain: i.plain != 0, TakenOver: int(i.taken_over),
		Failed: i.failed != 0,
	}, failed("disk_info", rc)
}

// Host gives the host's own limits of one watched disk, as Restore would set them.
func (d *Disk) Host(node string) (ThrottleConfig, error) {
	d.lock()
	defer d.unlock()
	var c C.struct_migbuf_throttle_config
	n := C.CString(node)
	defer C.free(unsafe.Pointer(n))
	rc := C.migbuf_disk_host(d.d, n, &c)
	return configOf(&c), failed("disk_host", rc)
}

// QDev is the device of one watched disk, "" before it is known.
func (d *Disk) QDev(node string) string {
	d.lock()
	defer d.unlock()
	n := C.CString(node)
	defer C.free(unsafe.Pointer(n))
	return C.GoString(C.migbuf_disk_qdev(d.d, n))
}
