// SPDX-License-Identifier: MIT

package migbuf

// #include <stdlib.h>
// #include <migbuf/migbuf.h>
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"unsafe"
)

// CommandKind tells what a Command is for.
type CommandKind int32

// Kinds.
const (
	CommandQuery       CommandKind = C.MIGBUF_DISK_QUERY    // query-block: Found for every entry, then Answered
	CommandAddGroup    CommandKind = C.MIGBUF_DISK_ADD      // object-add throttle-group
	CommandSetDisk     CommandKind = C.MIGBUF_DISK_THROTTLE // block_set_io_throttle
	CommandSetGroup    CommandKind = C.MIGBUF_DISK_LIMITS   // qom-set on a group
	CommandDeleteGroup CommandKind = C.MIGBUF_DISK_DELETE   // object-del
	CommandStatus      CommandKind = C.MIGBUF_DISK_STATUS   // query-status: Status, then Answered
	CommandStop        CommandKind = C.MIGBUF_DISK_STOP     // stop: pours the throttle's queue into the file
	CommandCont        CommandKind = C.MIGBUF_DISK_CONT     // cont
)

// String is "query", "add group", "set disk" and so on.
func (k CommandKind) String() string {
	return text([]string{"none", "query", "add group", "set disk", "set group", "delete group", "status", "stop", "cont"}, int(k))
}

// Command is one QMP command to send.
type Command struct {
	Kind      CommandKind     // what it is for
	Name      string          // as in {"execute": Name}
	Arguments json.RawMessage // a JSON object; nil for none
}

// DiskInfo is where a VM's throttle stands.
type DiskInfo struct {
	CommandsSent uint64 // commands that changed something in QEMU: each costs at most one request and a tenth of a second
	TextRevision uint64 // changes with the text of Save: save it before the next command
	Limits       Limits // ours in force, zero: none. After LoadDisk: as found, the host's own where stricter
	Learnt       bool   // every watched node was found
	Throttled    bool   // our limits are in force on every disk that is there
	Restored     bool   // the host's limits are in force again, and the guest is not left stopped by us
	Plain        bool   // no group object: lowering wakes one request too
	Failed       bool   // QEMU refused what there is no other way for; the next call tries again
	Unknown      bool   // something was sent, and nobody knows whether it was carried out
	Stopped      bool   // the guest stands because of us, or may do so
	TakenOver    int    // how often another hand changed the limits and was seen doing so
	Unclear      int    // how often nobody could tell on which of several disks, see TellHostLimits
	Gone         int    // watched disks that are unplugged
}

// Disk is the throttle of one VM's disks. It knows which QMP command comes next, and sends it through the host's monitor.
//
//	disk, err := migbuf.NewDisk("migbuf-vm1", "lxd_root")
//	disk.SaveWith(save)
//	err = disk.Learn(ctx, monitor)
//	err = disk.Apply(ctx, monitor, decision)  // then tell Buffer.Outcome
//	err = disk.Restore(ctx, monitor)          // when the overlay is gone
//
// Several goroutines may use it. Methods with a context wait for one another, no longer than the context lasts; the others
// wait for nothing. A nil Monitor sends nothing: what is wanted is noted, and the host asks Next for the commands.
//
// # Errors
//
// An error says what became of the call ([OutcomeOf]): refused where nothing of it is in force, unknown otherwise. After
// an unknown outcome nothing more is sent until the next Learn, Set, Apply, Rearm or Restore. That call asks QEMU what is
// in force before it believes anything, and whatever was ever sent is recognised: none of our limits can become the
// host's.
//
// A context that ends while the monitor has not answered makes the outcome unknown at once. The method returns; the
// monitor's Run goes on. The next method with a context waits until it has returned, so that nothing overtakes it. Where
// Run never returns, as its QEMU or its connection is gone: Close the Disk, connect anew, and LoadDisk what was saved.
type Disk struct {
	turn chan struct{} // whose turn it is to send: a mutex that a context can end waiting for
	late chan answer   // of a Run that had not returned when its context ended; its answer is of no use any more

	mu    sync.Mutex // of all below
	d     *C.struct_migbuf_disk
	save  Saver
	saved uint64 // the revision of the text that save was given last
}

// Saver keeps a text where a process that starts anew finds it, for [LoadDisk]. It must not call the Disk.
type Saver func(ctx context.Context, text string) error

type blockEntry struct {
	QDev     string  `json:"qdev"`
	Inserted *medium `json:"inserted"`
}

// medium is what query-block says of one. QEMU always names all six rates: one that is missing is not "no limit".
type medium struct {
	NodeName string `json:"node-name"`
	ThrottleConfig
	whole bool // all six were there
}

func (m *medium) UnmarshalJSON(text []byte) error {
	type plain medium
	var given map[string]json.RawMessage
	if err := json.Unmarshal(text, &given); err != nil {
		return err
	}
	m.whole = true
	for _, rate := range []string{"bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"} {
		value, ok := given[rate]
		m.whole = m.whole && ok && string(value) != "null"
	}
	return json.Unmarshal(text, (*plain)(m))
}

// answer is what Run came back with, and what a query said.
type answer struct {
	err     error
	blocks  *[]blockEntry
	status  *string
	running *bool
}

// NewDisk makes a throttle for the disks of one VM. group names the throttle-group object, unique in that QEMU: 1 to 64
// of A-Z a-z 0-9 - . _, a letter first. nodes are the node names of what the devices see (the top nodes) now; at most 16.
// Errors: ErrInvalid, ErrExists, ErrTooBig.
func NewDisk(group string, nodes ...string) (*Disk, error) {
	d := &Disk{turn: make(chan struct{}, 1)}
	if err := withText("disk_new", group, func(g *C.char) C.int { return C.migbuf_disk_new(g, nil, &d.d) }); err != nil {
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

// LoadDisk makes a throttle from the text that Save gave, in a process that started anew. [Disk.Pump] asks QEMU what is in
// force; [DiskInfo] tells it then, for [Buffer.Resync]. Apply or Restore as usual: Restore also deletes the group where the
// earlier process died before that. A guest that the text says stands because of us stays so until Apply lets it run, or
// Restore.
// Errors: ErrProtocol (cut, edited, another version), ErrTooBig.
func LoadDisk(text string) (*Disk, error) {
	d := &Disk{turn: make(chan struct{}, 1)}
	t := []byte(text)
	if err := failed("disk_load", C.migbuf_disk_load((*C.char)(at(t)), C.size_t(len(t)), nil, &d.d)); err != nil {
		return nil, err
	}
	return d, nil
}

// SaveWith has every new text saved before the next command is sent: the host's own limits before the first of ours is
// set, and that the guest stands because of us before it is stopped. Where save fails, nothing is sent and the method
// returns its error. Without it the host saves: see [DiskInfo].TextRevision.
func (d *Disk) SaveWith(save Saver) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.save = save
}

// call runs f, which calls the library.
func (d *Disk) call(op string, f func() C.int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed(op, f())
}

func (d *Disk) failed(op string, rc C.int) error {
	return ofHandle(d.d != nil, "NewDisk", failed(op, rc))
}

// SixRates says that the monitor can only set six rates, as [FromLXD]: before Learn. No group is made then, so each disk has
// a bucket of its own and an equal part of the limits. Nothing in QEMU tells these limits from another hand's, so Restore
// after LoadDisk always sends the host's own. Give the disks' [Geometry] the flag [GeometryNoIopsSize]. Errors: ErrState.
func (d *Disk) SixRates() error {
	return d.call("disk_six_rates", func() C.int { return C.migbuf_disk_six_rates(d.d) })
}

// Close frees the throttle. It sends nothing: Restore first. It returns nil, also the second time.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	C.migbuf_disk_free(d.d)
	d.d = nil
	return nil
}

// Watch adds a disk by the node name of what its device sees now, 1 to 31 bytes. The device stays known when a snapshot
// puts another node on top. Errors: ErrInvalid, ErrExists, ErrTooBig for a 17th, ErrState after the first limit was set.
func (d *Disk) Watch(node string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return ofHandle(d.d != nil, "NewDisk", withText("disk_watch", node, func(n *C.char) C.int { return C.migbuf_disk_watch(d.d, n) }))
}

// Learn asks QEMU what is in force: first to learn devices and the host's own limits, later to verify. Another hand's
// change is noticed then: what was found becomes what Restore brings back, and ours is set again. Errors: ErrNotFound
// where a watched node is not there, ErrState when no disk is watched, ErrPeer, ErrUnknown.
func (d *Disk) Learn(ctx context.Context, m Monitor) error {
	return d.want(ctx, m, "disk_learn", func() C.int { return C.migbuf_disk_learn(d.d) })
}

// Apply carries out a decision: sets limits, stops the guest, lets it run. Before stop and cont it asks query-status: a
// guest that another hand has stopped is not let run. ActionKeep and ActionWait do nothing. Afterwards tell the buffer:
//
//	err := disk.Apply(ctx, monitor, decision)
//	tickNow, _ := buffer.Outcome(decision.ID, migbuf.OutcomeOf(err))
//
// Let ctx end before BufferOptions.LagMs after the tick, so that the buffer hears of an unknown outcome in time. With
// calls of six rates, limits of less than 1 a disk stop the guest. Errors: those of Set.
// Where another hand may let a stopped guest run, as a server does when the migration has failed, Set the least limits before
// a pause: until the next Learn it has those that were in force, or none.
func (d *Disk) Apply(ctx context.Context, m Monitor, decision Decision) error {
	if !decision.Action.Acts() {
		return nil
	}
	return d.want(ctx, m, "disk_apply", func() C.int {
		return C.migbuf_disk_apply(d.d, (*C.struct_migbuf_decision)(unsafe.Pointer(&decision)))
	})
}

// Set puts these limits into force, and leaves stopping and running to the host. Limits in force already are not sent
// again. Errors: ErrState before everything is learnt and while a restore is under way, ErrRange for no limit at all and
// for more than QEMU takes (10^15), ErrPeer, ErrUnknown. With calls of six rates also ErrRange for less than 1 a disk, and
// ErrUnsupported where the host's own limits are more than six rates can say.
func (d *Disk) Set(ctx context.Context, m Monitor, limits Limits) error {
	return d.want(ctx, m, "disk_set", func() C.int {
		return C.migbuf_disk_set(d.d, (*C.struct_migbuf_limits)(unsafe.Pointer(&limits)))
	})
}

// Rearm sets the limits in force once more: a request that waits for what QEMU's bucket owes goes on. Errors: ErrState
// when no limits of ours are in force, ErrPeer, ErrUnknown.
func (d *Disk) Rearm(ctx context.Context, m Monitor) error {
	return d.want(ctx, m, "disk_rearm", func() C.int { return C.migbuf_disk_rearm(d.d) })
}

// Restore brings the host's own limits back, deletes the group, and lets the guest run if it stands because of us. It asks
// QEMU what is in force first. Fine when nothing was ever set. After an error call it again. Errors: ErrState before
// everything is learnt, ErrPeer, ErrUnknown.
func (d *Disk) Restore(ctx context.Context, m Monitor) error {
	return d.want(ctx, m, "disk_restore", func() C.int { return C.migbuf_disk_restore(d.d) })
}

// Pump goes on with what a method that was interrupted before it sent anything had begun, and asks QEMU after LoadDisk.
// Nothing to do: nil. After an unknown outcome it sends nothing and says so: Learn asks.
func (d *Disk) Pump(ctx context.Context, m Monitor) error {
	return d.want(ctx, m, "disk_pump", func() C.int {
		if d.d == nil {
			return C.MIGBUF_E_INVALID
		}
		return 0
	})
}

// TellHostLimits says that the host's own limits of one watched disk are these from now on: for a host that changes them itself
// while ours are in force, and so knows what query-block cannot tell. Restore brings these back. Set nothing in QEMU then.
// Errors: ErrNotFound, ErrRange for a rate above 10^15, ErrTooBig, ErrState before everything is learnt.
func (d *Disk) TellHostLimits(ctx context.Context, node string, config ThrottleConfig) error {
	const op = "disk_tell_host_limits"
	var c C.struct_migbuf_throttle_config
	if !config.toC(&c) {
		return longGroup(op)
	}
	if err := d.enter(ctx, op); err != nil {
		return err
	}
	defer d.leave()
	d.mu.Lock()
	err := ofHandle(d.d != nil, "NewDisk", withText(op, node, func(n *C.char) C.int { return C.migbuf_disk_tell_host_limits(d.d, n, &c) }))
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.saveText(ctx, op)
}

// want notes what is wanted, then sends one command after the other.
func (d *Disk) want(ctx context.Context, m Monitor, op string, wish func() C.int) error {
	if err := d.enter(ctx, op); err != nil {
		return err
	}
	defer d.leave()
	if err := d.call(op, wish); err != nil {
		return d.judged(err, true)
	}
	if m == nil {
		return nil
	}
	return d.judged(d.pump(ctx, m, op), false)
}

func (d *Disk) pump(ctx context.Context, m Monitor, op string) error {
	var refused error // by QEMU, where there was another way, or another disk to be served
	for {
		if ctx.Err() != nil {
			return interrupted(op, ctx)
		}
		if err := d.saveText(ctx, op); err != nil {
			return err
		}
		command, ok, err := d.Next()
		if err != nil {
			return err
		}
		if !ok {
			return d.rested(op, refused)
		}
		a := d.send(ctx, m, command)
		if a.err != nil && errors.Is(a.err, ErrPeer) {
			refused = a.err
		}
		if err := d.take(op, command.Kind, a); err != nil {
			return err
		}
	}
}

// rested: nothing is left to send. That is no success where a disk was left out, or an outcome is unknown from before.
func (d *Disk) rested(op string, refused error) error {
	switch d.Outcome() {
	case OutcomeRefused:
		return &Error{Op: op, Code: ErrPeer, Cause: refused}
	case OutcomeUnknown:
		if refused != nil {
			return &Error{Op: op, Code: ErrPeer, Cause: refused}
		}
		return &Error{Op: op, Code: ErrUnknown, Text: "nobody knows what is in force: Learn asks"}
	}
	return nil
}

// judged tells an error what became of the call. What was only noted may still be sent: that is not refused. A wish that
// was not taken is, but what was in force before may have been unknown all along.
func (d *Disk) judged(err error, wish bool) error {
	e, ok := err.(*Error)
	if !ok || e.Outcome != 0 {
		return err
	}
	e.Outcome = OutcomeUnknown
	switch d.Outcome() {
	case OutcomeRefused:
		e.Outcome = OutcomeRefused
	case OutcomeDone, 0:
		if wish {
			e.Outcome = OutcomeRefused
		}
	}
	return e
}

// enter waits for this call's turn, and until no Run of an earlier one is left.
func (d *Disk) enter(ctx context.Context, op string) error {
	if d.turn == nil {
		return &Error{Op: op, Code: ErrInvalid, Text: "it was not made by NewDisk", Outcome: OutcomeRefused}
	}
	if ctx.Err() != nil {
		return interrupted(op, ctx)
	}
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return interrupted(op, ctx)
	}
	if d.late == nil {
		return nil
	}
	select {
	case <-d.late:
		d.late = nil
		return nil
	case <-ctx.Done():
		d.leave()
		return interrupted(op, ctx)
	}
}

func (d *Disk) leave() { <-d.turn }

// interrupted: of this call nothing was sent, or more of it would have been.
func interrupted(op string, ctx context.Context) error {
	return &Error{Op: op, Code: ErrTimeout, Text: "interrupted", Cause: ctx.Err(), Outcome: OutcomeUnknown}
}

// send has the monitor run a command, and waits for it no longer than the context lasts.
func (d *Disk) send(ctx context.Context, m Monitor, command Command) answer {
	back := make(chan answer, 1)
	go func() { back <- ask(ctx, m, command) }()
	select {
	case a := <-back:
		return a
	case <-ctx.Done():
	}
	select { // both at once: an answer is worth more
	case a := <-back:
		return a
	default:
		d.late = back
		return answer{err: ctx.Err()}
	}
}

func ask(ctx context.Context, m Monitor, command Command) (a answer) {
	var args any
	if command.Arguments != nil {
		args = command.Arguments
	}
	switch command.Kind {
	case CommandQuery:
		var reply struct {
			Return *[]blockEntry `json:"return"`
		}
		a.err = m.Run(ctx, command.Name, args, &reply)
		a.blocks = reply.Return
	case CommandStatus:
		var reply struct {
			Return struct {
				Status  *string `json:"status"`
				Running *bool   `json:"running"`
			} `json:"return"`
		}
		a.err = m.Run(ctx, command.Name, args, &reply)
		a.status, a.running = reply.Return.Status, reply.Return.Running
	default:
		a.err = m.Run(ctx, command.Name, args, nil)
	}
	return a
}

// take tells the library what came back. An answer that cannot be read leaves everything as unknown as before.
func (d *Disk) take(op string, kind CommandKind, a answer) error {
	outcome := OutcomeUnknown
	switch {
	case a.err == nil:
		outcome = OutcomeDone
	case errors.Is(a.err, ErrPeer):
		outcome = OutcomeRefused
	}
	if outcome == OutcomeDone {
		if err := d.pass(op, kind, a); err != nil {
			_ = d.Answered(OutcomeUnknown)
			return err
		}
	}
	err := d.Answered(outcome)
	if e, ok := err.(*Error); ok {
		e.Op, e.Cause = op, a.err
	}
	return err
}

// pass gives the library what a query said.
func (d *Disk) pass(op string, kind CommandKind, a answer) error {
	switch {
	case kind == CommandStatus && a.status != nil && a.running != nil:
		return d.Status(*a.status, *a.running)
	case kind == CommandQuery && a.blocks != nil:
		for _, entry := range *a.blocks {
			if entry.QDev == "" || entry.Inserted == nil {
				continue // a drive of another program, an empty tray
			}
			if len(entry.Inserted.Group) >= groupBytes && !d.watches(entry.Inserted.NodeName) {
				continue // no group of ours is called so, and a stranger's is no reason to learn nothing
			}
			if !entry.Inserted.whole {
				return &Error{Op: op, Code: ErrProtocol, Text: "query-block does not say all six limits"}
			}
			if _, err := d.Found(entry.Inserted.NodeName, entry.QDev, entry.Inserted.ThrottleConfig); err != nil {
				return err
			}
		}
		return nil
	case kind == CommandStatus || kind == CommandQuery:
		return &Error{Op: op, Code: ErrProtocol, Text: "the monitor gave an answer without what was asked for"}
	}
	return nil
}

// watches tells whether a disk was watched by that name.
func (d *Disk) watches(node string) bool {
	_, err := d.Host(node)
	return !errors.Is(err, ErrNotFound)
}

// saveText has a new text saved.
func (d *Disk) saveText(ctx context.Context, op string) error {
	d.mu.Lock()
	save, before := d.save, d.saved
	d.mu.Unlock()
	if save == nil {
		return nil
	}
	info, err := d.Info()
	if err != nil || info.TextRevision == before {
		return err
	}
	text, err := d.Save()
	if errors.Is(err, ErrState) {
		return nil // there is nothing to save before every disk is found
	}
	if err != nil {
		return err
	}
	if err := save(ctx, text); err != nil {
		return &Error{Op: op, Code: ErrState, Text: "the text was not saved", Cause: err}
	}
	d.mu.Lock()
	d.saved = info.TextRevision
	d.mu.Unlock()
	return nil
}

// The machine underneath, for a host that sends commands in a way of its own: Next, then Found for each entry of a
// CommandQuery or Status for a CommandStatus, and Answered, until Next says that there is nothing to do.

// Next is the next command, or false when there is nothing to do. The same one until Answered is said.
func (d *Disk) Next() (Command, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var c C.struct_migbuf_disk_command
	rc := C.migbuf_disk_next(d.d, &c)
	if rc <= 0 {
		return Command{}, false, d.failed("disk_next", rc)
	}
	command := Command{Kind: CommandKind(c.kind), Name: C.GoString(c.name)}
	if c.arguments != nil {
		command.Arguments = json.RawMessage(C.GoString(c.arguments))
	}
	return command, true, nil
}

// Found is part of the answer to CommandQuery: one entry of query-block. Give all of them, also those of disks that do not
// migrate, as they may share a group with one that does. It tells whether it is one of ours. Errors: ErrState when no
// query is under way, ErrTooBig, ErrRange for a rate above 10^15, ErrUnsupported when two devices write to one node.
func (d *Disk) Found(node, qdev string, config ThrottleConfig) (bool, error) {
	const op = "disk_found"
	var c C.struct_migbuf_throttle_config
	if !config.toC(&c) {
		return false, longGroup(op)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ours := false
	err := withText(op, node, func(n *C.char) C.int {
		q := C.CString(qdev)
		defer C.free(unsafe.Pointer(q))
		rc := C.migbuf_disk_found(d.d, n, q, &c)
		ours = rc == 1
		return rc
	})
	return ours, ofHandle(d.d != nil, "NewDisk", err)
}

// Status is the answer to CommandStatus, as query-status has it. Errors: ErrState when no such query is under way.
func (d *Disk) Status(status string, running bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var runs C.int32_t
	if running {
		runs = 1
	}
	return ofHandle(d.d != nil, "NewDisk", withText("disk_status", status, func(s *C.char) C.int { return C.migbuf_disk_status(d.d, s, runs) }))
}

// Answered says what became of the command under way. Who does not know says OutcomeUnknown. nil: go on with Next.
// Errors: ErrPeer when QEMU refused it and there is no other way, ErrUnknown after an unknown outcome, ErrNotFound when a
// watched node has never been among what was found, ErrState when no command was under way.
func (d *Disk) Answered(outcome Outcome) error {
	return d.call("disk_answered", func() C.int { return C.migbuf_disk_answered(d.d, C.int32_t(outcome)) })
}

// Outcome is what became of the last Apply, Set, Rearm or Restore, for [Buffer.Outcome]: OutcomeRefused when nothing of it
// is in force, OutcomeUnknown also when a part of it is, 0 while commands are left to send. For a host that sends commands
// by itself; with a Monitor, [OutcomeOf] the method's error says it.
func (d *Disk) Outcome() Outcome {
	d.mu.Lock()
	defer d.mu.Unlock()
	if rc := C.migbuf_disk_outcome(d.d); rc >= 0 {
		return Outcome(rc)
	}
	return OutcomeUnknown
}

// Save gives the host's own limits of every disk as text, and whether the guest stands because of us, to be kept where a
// process that starts anew finds it. After Learn, before the first limit is set, and whenever DiskInfo.TextRevision has
// changed, before the next command: [Disk.SaveWith] sees to that. Printable ASCII with version and checksum. Errors:
// ErrState before every disk is found.
func (d *Disk) Save() (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	text, err := saved("disk_save", func(text *C.char, capacity C.size_t, length *C.size_t) C.int {
		return C.migbuf_disk_save(d.d, text, capacity, length)
	})
	return text, ofHandle(d.d != nil, "NewDisk", err)
}

// Info tells where it stands.
func (d *Disk) Info() (DiskInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := C.struct_migbuf_disk_info{size: C.sizeof_struct_migbuf_disk_info}
	rc := C.migbuf_disk_info(d.d, &i)
	return DiskInfo{
		CommandsSent: uint64(i.commands_sent), TextRevision: uint64(i.text_revision), Limits: *(*Limits)(unsafe.Pointer(&i.limits)),
		Learnt: i.learnt != 0, Throttled: i.throttled != 0, Restored: i.restored != 0, Plain: i.plain != 0, Failed: i.failed != 0,
		Unknown: i.unknown != 0, Stopped: i.stopped != 0, TakenOver: int(i.taken_over), Unclear: int(i.unclear), Gone: int(i.gone),
	}, d.failed("disk_info", rc)
}

// Host gives the host's own limits of one watched disk, as Restore would set them. Errors: ErrNotFound, ErrState before
// everything is learnt.
func (d *Disk) Host(node string) (ThrottleConfig, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var c C.struct_migbuf_throttle_config
	err := withText("disk_host_limits", node, func(n *C.char) C.int { return C.migbuf_disk_host_limits(d.d, n, &c) })
	return configOf(&c), ofHandle(d.d != nil, "NewDisk", err)
}

// QDev is the device of one watched disk, "" before it is known and when it is gone.
func (d *Disk) QDev(node string) (qdev string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = withText("disk_qdev", node, func(n *C.char) C.int {
		qdev = C.GoString(C.migbuf_disk_qdev(d.d, n))
		return 0
	})
	return qdev
}
