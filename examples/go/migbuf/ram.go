// SPDX-License-Identifier: MIT

package migbuf

// #include <stdlib.h>
// #include <migbuf/ram.h>
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"unsafe"
)

// RAMSide is one of the two QEMUs.
type RAMSide int32

// Sides.
const (
	RAMSideSource RAMSide = C.MIGBUF_RAM_SOURCE // the QEMU the guest leaves
	RAMSideTarget RAMSide = C.MIGBUF_RAM_TARGET // the QEMU it goes to
)

// String is "source" or "target".
func (s RAMSide) String() string { return text([]string{"source", "target"}, int(s)) }

// RAMKind tells what a RAMCommand is for.
type RAMKind int32

// Kinds.
const (
	RAMKindGetCapabilities RAMKind = C.MIGBUF_RAM_GET_CAPABILITIES // query-migrate-capabilities: FoundCapability for each entry
	RAMKindGetParameters   RAMKind = C.MIGBUF_RAM_GET_PARAMETERS   // query-migrate-parameters: FoundParameter for numbers and booleans
	RAMKindGetMigration    RAMKind = C.MIGBUF_RAM_GET_MIGRATION    // query-migrate: Found
	RAMKindGetStatus       RAMKind = C.MIGBUF_RAM_GET_STATUS       // query-status: Status
	RAMKindSetCapabilities RAMKind = C.MIGBUF_RAM_SET_CAPABILITIES // migrate-set-capabilities
	RAMKindSetParameters   RAMKind = C.MIGBUF_RAM_SET_PARAMETERS   // migrate-set-parameters
	RAMKindIncoming        RAMKind = C.MIGBUF_RAM_INCOMING         // migrate-incoming
	RAMKindMigrate         RAMKind = C.MIGBUF_RAM_MIGRATE          // migrate
	RAMKindStartPostcopy   RAMKind = C.MIGBUF_RAM_START_POSTCOPY   // migrate-start-postcopy
	RAMKindContinue        RAMKind = C.MIGBUF_RAM_CONTINUE         // migrate-continue
	RAMKindCancel          RAMKind = C.MIGBUF_RAM_CANCEL           // migrate_cancel
	RAMKindCont            RAMKind = C.MIGBUF_RAM_CONT             // cont
	RAMKindPause           RAMKind = C.MIGBUF_RAM_PAUSE            // migrate-pause
	RAMKindRecover         RAMKind = C.MIGBUF_RAM_RECOVER          // migrate-recover
	RAMKindResume          RAMKind = C.MIGBUF_RAM_RESUME           // migrate with resume
)

// String is "get capabilities" and so on.
func (k RAMKind) String() string {
	return text([]string{"none", "get capabilities", "get parameters", "get migration", "get status", "set capabilities", "set parameters",
		"incoming", "migrate", "start post-copy", "continue", "cancel", "cont", "pause", "recover", "resume"}, int(k))
}

// RAMCommand is one QMP command to send to one side.
type RAMCommand struct {
	Kind      RAMKind         // what it is for
	Side      RAMSide         // to whom
	OutOfBand bool            // by exec-oob where the monitor can: a target that waits for pages answers nothing else
	Name      string          // as in {"execute": Name}
	Arguments json.RawMessage // a JSON object; nil for none
}

// RAMState is where a RAM stands.
type RAMState int32

// States.
const (
	RAMStateIdle      RAMState = C.MIGBUF_RAM_STATE_IDLE      // nothing was started
	RAMStateArming    RAMState = C.MIGBUF_RAM_STATE_ARMING    // settings are made
	RAMStateArmed     RAMState = C.MIGBUF_RAM_STATE_ARMED     // they are made, and the host sends migrate itself
	RAMStateRunning   RAMState = C.MIGBUF_RAM_STATE_RUNNING   // memory is sent, the guest is at the source
	RAMStateSwitch    RAMState = C.MIGBUF_RAM_STATE_SWITCH    // the guest stands: end the mirrors now, then Switch
	RAMStateEnding    RAMState = C.MIGBUF_RAM_STATE_ENDING    // the last bytes, or a cancel, are under way
	RAMStatePostcopy  RAMState = C.MIGBUF_RAM_STATE_POSTCOPY  // the guest is at the target, some of its memory is not
	RAMStateBroken    RAMState = C.MIGBUF_RAM_STATE_BROKEN    // the same, and the link broke: it is mended
	RAMStateUnclear   RAMState = C.MIGBUF_RAM_STATE_UNCLEAR   // it failed at the end: end the target's QEMU and say Gone
	RAMStateMoved     RAMState = C.MIGBUF_RAM_STATE_MOVED     // over: the guest is at the target
	RAMStateCancelled RAMState = C.MIGBUF_RAM_STATE_CANCELLED // over: cancelled, the guest is at the source
	RAMStateFailed    RAMState = C.MIGBUF_RAM_STATE_FAILED    // over: failed, the guest is at the source
	RAMStateLost      RAMState = C.MIGBUF_RAM_STATE_LOST      // over: a QEMU died that had what nobody else has. End the other
	RAMStateRefused   RAMState = C.MIGBUF_RAM_STATE_REFUSED   // over: QEMU refused to begin, the guest is at the source
)

// String is "idle", "arming" and so on.
func (s RAMState) String() string { return C.GoString(C.migbuf_ram_state_text(C.int32_t(s))) }

// Over tells whether it has ended.
func (s RAMState) Over() bool { return s >= RAMStateMoved }

// RAMEvent is an event of QEMU's that a RAM wants to hear.
type RAMEvent int32

// Events.
const (
	RAMEventMigration RAMEvent = C.MIGBUF_RAM_EVENT_MIGRATION // MIGRATION, with its status as a phase
	RAMEventPass      RAMEvent = C.MIGBUF_RAM_EVENT_PASS      // MIGRATION_PASS
	RAMEventStop      RAMEvent = C.MIGBUF_RAM_EVENT_STOP      // STOP
	RAMEventResume    RAMEvent = C.MIGBUF_RAM_EVENT_RESUME    // RESUME
)

// String is the event's name.
func (e RAMEvent) String() string {
	return text([]string{"unknown", "MIGRATION", "MIGRATION_PASS", "STOP", "RESUME"}, int(e))
}

// RAMOptions are how it is to go. In a literal, a field that is 0 gets its default.
type RAMOptions struct {
	size                  uint64
	MaxBandwidthBytesPerS uint64 // QEMU's own bound, bytes/s; 17'179'869'184, as QEMU's default is 134 MB/s
	XBZRLECacheBytes      uint64 // a power of two: xbzrle is armed; 0: not
	MultifdChannels       uint32 // 1 to 255: multifd is armed; 0: not
	FixMs                 uint32 // of every stop; 50
	Sides                 int32  // 3: both; 1: the source alone, 2: the target alone
	OneWay                int32  // 1: the stream is a pipe: no post-copy, no multifd
	HostDecides           int32  // 1: nothing is decided here: Apply
	reserved              int32
}

// DefaultRAMOptions are the library's.
func DefaultRAMOptions() RAMOptions {
	var o RAMOptions
	C.migbuf_ram_options_init(o.c(), C.uint64_t(unsafe.Sizeof(o)))
	return o
}

func (o *RAMOptions) c() *C.struct_migbuf_ram_options {
	return (*C.struct_migbuf_ram_options)(unsafe.Pointer(o))
}

// Choose sets XBZRLECacheBytes and MultifdChannels where they help, else to 0. Errors: ErrInvalid, ErrRange.
func (o *RAMOptions) Choose(a Agreement, prior Prior, verdict RAMVerdict, linkBytesPerS float64, hostRAMBytes uint64) error {
	chosen := orDefaults(*o, DefaultRAMOptions())
	a = orDefaults(a, DefaultAgreement())
	rc := C.migbuf_ram_options_choose(chosen.c(), a.c(), prior.c(), C.int32_t(verdict), C.double(linkBytesPerS), C.uint64_t(hostRAMBytes))
	if rc == 0 {
		*o = chosen
	}
	return failed("ram_options_choose", rc)
}

// RAMInfo is what is known of it.
type RAMInfo struct {
	size            uint64
	TextRevision    uint64   // changes with the text of Save: save it before the next command
	CommandsSent    uint64   // that changed something
	State           RAMState // where it stands
	SourcePhase     RAMPhase // as last seen
	TargetPhase     RAMPhase // as last seen
	Learnt          int32    // 1: what the host had set is known
	Restored        int32    // 1: it is in force again, or nobody is left to be given it
	Failed          int32    // 1: QEMU refused what there is no other way for
	Unknown         int32    // 1: something was sent, and nobody knows whether it was carried out
	TakenOver       int32    // parameters that another hand has set meanwhile, and that stay so
	ArmedThrottle   int32    // 1: auto-converge is armed
	ArmedPostcopy   int32    // 1: post-copy is
	ArmedPreempt    int32    // 1: with a channel of its own for requests
	ArmedXBZRLE     int32    // 1: xbzrle is
	ArmedMultifd    int32    // 1: multifd is
	reserved        int32
	Decision        RAMDecision // the last
	RetryMs         uint64      // broken: the next try is made by a look at that time or later
	LimitMs         uint64      // downtime-limit in force
	ThrottlePercent uint64      // in force
	TotalMs         uint64      // since migrate
	DowntimeMs      uint64      // from the source's STOP to the target's RESUME where both were seen, else QEMU's own figure
	LostMs          uint64      // guest time lost
	SentBytes       uint64      // all that was sent
	ResentBytes     uint64      // of it, pages that were sent again
	Rounds          uint64      // that have ended
}

// RAM is the memory phase of one VM's migration. It knows which QMP command comes next, at the source or at the target:
//
//	ram, err := migbuf.NewRAM(agreement, nil)
//	err = ram.Learn(); err = ram.Pump(ctx, source, target)       // what the host itself had set; then save
//	err = ram.Start(uri, uri); err = ram.Pump(ctx, source, target)
//	for !info.State.Over() {                                     // every second, and at each event
//		err = ram.Look(nowMs); err = ram.Pump(ctx, source, target) // asks, decides, sets
//		if info.State == migbuf.RAMStateSwitch { ram.Switch() }    // when the mirrors have ended
//	}
//	attempt, err := ram.Attempt(id)                              // for HistoryAppend
//	err = ram.Restore(); err = ram.Pump(ctx, source, target)     // the host's own settings come back
//
// After an unknown outcome nothing is sent before the next Look, Restore or other call; then QEMU is asked first. migrate_cancel
// is never sent once post-copy may have begun. One goroutine at a time sends; the others wait for nothing.
type RAM struct {
	mu   sync.Mutex
	r    *C.struct_migbuf_ram
	send sync.Mutex
}

// NewRAM makes one; options nil are the defaults. Errors: ErrInvalid, ErrRange.
func NewRAM(a Agreement, options *RAMOptions) (*RAM, error) {
	a = orDefaults(a, DefaultAgreement())
	o := DefaultRAMOptions()
	if options != nil {
		o = orDefaults(*options, o)
	}
	r := &RAM{}
	if err := failed("ram_new", C.migbuf_ram_new(a.c(), o.c(), nil, &r.r)); err != nil {
		return nil, err
	}
	return r, nil
}

// LoadRAM makes one from the text that Save gave, in a process that started anew. Pump first: it asks both sides. Errors:
// ErrProtocol, ErrTooBig.
func LoadRAM(saved string) (*RAM, error) {
	r := &RAM{}
	t, n := chars(saved)
	if err := failed("ram_load", C.migbuf_ram_load(t, n, nil, &r.r)); err != nil {
		return nil, err
	}
	return r, nil
}

// Close frees it. It sends nothing: Restore first. It returns nil, also the second time.
func (r *RAM) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	C.migbuf_ram_free(r.r)
	r.r = nil
	return nil
}

func (r *RAM) call(op string, f func() C.int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ofHandle(r.r != nil, "NewRAM", failed(op, f()))
}

// Learn wants to know what is set on both sides, and how the guest is. Before Start. Errors: ErrState once it was started.
func (r *RAM) Learn() error {
	return r.call("ram_learn", func() C.int { return C.migbuf_ram_learn(r.r) })
}

// withTexts calls f with two C strings, NULL for "".
func withTexts(op, a, b string, f func(a, b *C.char) C.int) error {
	return withText(op, a, func(ca *C.char) C.int {
		cb := C.CString(b)
		defer C.free(unsafe.Pointer(cb))
		if a == "" {
			ca = nil
		}
		if b == "" {
			return f(ca, nil)
		}
		return f(ca, cb)
	})
}

// Start arms both sides and starts. "": the host sends migrate, or migrate-incoming, itself. Errors: ErrState before everything is
// learnt, when it was started before, when the source migrates already; ErrUnsupported where the source knows no
// pause-before-switchover; ErrTooBig.
func (r *RAM) Start(sourceURI, targetURI string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ofHandle(r.r != nil, "NewRAM", withTexts("ram_start", sourceURI, targetURI, func(s, t *C.char) C.int { return C.migbuf_ram_start(r.r, s, t) }))
}

// URI gives other uris, for the next try to mend a broken post-copy. "" keeps one. Errors: ErrTooBig.
func (r *RAM) URI(sourceURI, targetURI string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ofHandle(r.r != nil, "NewRAM", withTexts("ram_uri", sourceURI, targetURI, func(s, t *C.char) C.int { return C.migbuf_ram_uri(r.r, s, t) }))
}

// Look says that time has passed: the next Pump asks how it stands, and decides. Errors: ErrClock.
func (r *RAM) Look(nowMs uint64) error {
	return r.call("ram_look", func() C.int { return C.migbuf_ram_look(r.r, C.uint64_t(nowMs)) })
}

// Event says an event of one side; status is that of MIGRATION. The next Pump asks. Errors: ErrInvalid, ErrClock.
func (r *RAM) Event(side RAMSide, event RAMEvent, status string, nowMs uint64) error {
	phase := RAMPhaseNone
	if event == RAMEventMigration {
		phase = RAMPhaseOf(status)
	}
	return r.call("ram_event", func() C.int {
		return C.migbuf_ram_event(r.r, C.int32_t(side), C.int32_t(event), C.int32_t(phase), C.uint64_t(nowMs))
	})
}

// Link says what this migration gets of its link, where the host knows it better; 0: what the last round got. Errors:
// ErrInvalid, ErrRange.
func (r *RAM) Link(bytesPerS float64) error {
	return r.call("ram_link", func() C.int { return C.migbuf_ram_link(r.r, C.double(bytesPerS)) })
}

// Stands says that the guest stands because of the host: at the target it is let run.
func (r *RAM) Stands(stands bool) error {
	var s C.int32_t
	if stands {
		s = 1
	}
	return r.call("ram_stands", func() C.int { return C.migbuf_ram_stands(r.r, s) })
}

// Guest is the guest and its link, for forecasts. Errors: ErrState before a round has ended, or while the link is not known.
func (r *RAM) Guest() (RAMGuest, error) {
	g := NewRAMGuest()
	err := r.call("ram_convergence", func() C.int { return C.migbuf_ram_convergence(r.r, g.c()) })
	return g, err
}

// Apply does what a decision says. Errors: ErrRange for what was not agreed, ErrUnsupported for what is not armed, ErrState.
func (r *RAM) Apply(d RAMDecision) error {
	return r.call("ram_apply", func() C.int {
		return C.migbuf_ram_apply(r.r, (*C.struct_migbuf_ram_decision)(unsafe.Pointer(&d)))
	})
}

// Switch says that the mirrors have ended, or that there are none.
func (r *RAM) Switch() error {
	return r.call("ram_switch", func() C.int { return C.migbuf_ram_switch(r.r) })
}

// Cancel gives up: the guest stays at the source. Errors: ErrState once that would risk the guest, or when it is over.
func (r *RAM) Cancel() error {
	return r.call("ram_cancel", func() C.int { return C.migbuf_ram_cancel(r.r) })
}

// Gone says that this side's QEMU has certainly ended.
func (r *RAM) Gone(side RAMSide) error {
	return r.call("ram_gone", func() C.int { return C.migbuf_ram_gone(r.r, C.int32_t(side)) })
}

// Restore wants the host's own capabilities and parameters back. Errors: ErrState while the migration runs, or may run.
func (r *RAM) Restore() error {
	return r.call("ram_restore", func() C.int { return C.migbuf_ram_restore(r.r) })
}

// Pump sends one command after the other until nothing is left. A monitor is nil for a side that this RAM does not speak to. It
// waits for each Run to return, so Run has to end with its context. Errors: ErrPeer when QEMU refused what there is no other way
// for, ErrUnknown after an unknown outcome, ErrTimeout when the context ended before anything more was sent.
func (r *RAM) Pump(ctx context.Context, source, target Monitor) error {
	r.send.Lock()
	defer r.send.Unlock()
	for {
		if ctx.Err() != nil {
			return interrupted("ram_pump", ctx)
		}
		command, ok, err := r.Next()
		if err != nil || !ok {
			return err
		}
		m := source
		if command.Side == RAMSideTarget {
			m = target
		}
		if m == nil {
			return &Error{Op: "ram_pump", Code: ErrInvalid, Text: "there is no monitor for that side"}
		}
		if err := r.run(ctx, m, command); err != nil {
			return err
		}
	}
}

func (r *RAM) run(ctx context.Context, m Monitor, command RAMCommand) error {
	var args, resp any
	var reply struct {
		Return json.RawMessage `json:"return"`
	}
	if command.Arguments != nil {
		args = command.Arguments
	}
	if command.Kind <= RAMKindGetStatus {
		resp = &reply
	}
	said := m.Run(ctx, command.Name, args, resp)
	outcome := OutcomeUnknown
	switch {
	case said == nil:
		outcome = OutcomeDone
	case errors.Is(said, ErrPeer):
		outcome = OutcomeRefused
	}
	if outcome == OutcomeDone {
		if err := r.pass(command.Kind, reply.Return); err != nil {
			_ = r.Answered(OutcomeUnknown)
			return &Error{Op: "ram_pump", Code: ErrProtocol, Cause: err, Outcome: OutcomeUnknown}
		}
	}
	err := r.Answered(outcome)
	if e, ok := err.(*Error); ok {
		e.Op, e.Cause = "ram_pump", said
	}
	return err
}

// pass gives the library what a query said.
func (r *RAM) pass(kind RAMKind, reply json.RawMessage) error {
	switch kind {
	case RAMKindGetCapabilities:
		var list []struct {
			Capability *string `json:"capability"`
			State      *bool   `json:"state"`
		}
		if err := json.Unmarshal(reply, &list); err != nil {
			return err
		}
		for _, c := range list {
			if c.Capability == nil || c.State == nil {
				return errors.New("an entry without capability or state")
			}
		}
		for _, c := range list {
			if err := r.FoundCapability(*c.Capability, *c.State); err != nil {
				return err
			}
		}
	case RAMKindGetParameters:
		var all map[string]json.RawMessage
		if err := json.Unmarshal(reply, &all); err != nil {
			return err
		}
		for name, value := range all {
			var number uint64
			var flag bool
			if json.Unmarshal(value, &flag) == nil && flag {
				number = 1
			} else if string(value) != "false" && json.Unmarshal(value, &number) != nil {
				continue // a text, or a list
			}
			if err := r.FoundParameter(name, number); err != nil {
				return err
			}
		}
	case RAMKindGetMigration:
		var report RAMReport
		if err := json.Unmarshal(reply, &report); err != nil {
			return err
		}
		return r.Found(&report)
	case RAMKindGetStatus:
		var s struct {
			Status  *string `json:"status"`
			Running bool    `json:"running"`
		}
		if err := json.Unmarshal(reply, &s); err != nil {
			return err
		}
		if s.Status == nil {
			return errors.New("query-status without a status")
		}
		return r.Status(*s.Status, s.Running)
	}
	return nil
}

// The machine underneath, for a host that sends commands in a way of its own.

// Next is the next command, or false when there is nothing to do. The same one until Answered is said.
func (r *RAM) Next() (RAMCommand, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var c C.struct_migbuf_ram_command
	rc := C.migbuf_ram_next(r.r, &c)
	if rc <= 0 {
		return RAMCommand{}, false, ofHandle(r.r != nil, "NewRAM", failed("ram_next", rc))
	}
	command := RAMCommand{Kind: RAMKind(c.kind), Side: RAMSide(c.side), OutOfBand: c.out_of_band != 0, Name: C.GoString(c.name)}
	if c.arguments != nil {
		command.Arguments = json.RawMessage(C.GoString(c.arguments))
	}
	return command, true, nil
}

// FoundCapability is one entry of the answer to RAMKindGetCapabilities. Errors: ErrState.
func (r *RAM) FoundCapability(name string, on bool) error {
	var state C.int32_t
	if on {
		state = 1
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return ofHandle(r.r != nil, "NewRAM", withText("ram_found_capability", name, func(n *C.char) C.int {
		return C.migbuf_ram_found_capability(r.r, n, state)
	}))
}

// FoundParameter is one number of the answer to RAMKindGetParameters, booleans as 0 and 1. Errors: ErrState.
func (r *RAM) FoundParameter(name string, value uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ofHandle(r.r != nil, "NewRAM", withText("ram_found_parameter", name, func(n *C.char) C.int {
		return C.migbuf_ram_found_parameter(r.r, n, C.uint64_t(value))
	}))
}

// Found is the answer to RAMKindGetMigration. Errors: ErrState.
func (r *RAM) Found(report *RAMReport) error {
	c := report.c()
	return r.call("ram_found", func() C.int { return C.migbuf_ram_found(r.r, &c) })
}

// Status is the answer to RAMKindGetStatus. Errors: ErrState.
func (r *RAM) Status(status string, running bool) error {
	var runs C.int32_t
	if running {
		runs = 1
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return ofHandle(r.r != nil, "NewRAM", withText("ram_status", status, func(s *C.char) C.int { return C.migbuf_ram_status(r.r, s, runs) }))
}

// Answered says what became of the command under way. nil: go on with Next. Errors: ErrPeer when QEMU refused it and there is no
// other way, ErrUnknown after an unknown outcome, ErrState when no command was under way.
func (r *RAM) Answered(outcome Outcome) error {
	return r.call("ram_answered", func() C.int { return C.migbuf_ram_answered(r.r, C.int32_t(outcome)) })
}

// Outcome is what became of the last Learn, Start, Apply, Cancel or Restore; 0 while commands are left to send.
func (r *RAM) Outcome() Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rc := C.migbuf_ram_outcome(r.r); rc >= 0 {
		return Outcome(rc)
	}
	return OutcomeUnknown
}

// Info tells where it stands.
func (r *RAM) Info() (RAMInfo, error) {
	i := RAMInfo{size: uint64(unsafe.Sizeof(RAMInfo{}))}
	err := r.call("ram_info", func() C.int { return C.migbuf_ram_info(r.r, (*C.struct_migbuf_ram_info)(unsafe.Pointer(&i))) })
	return i, err
}

// Attempt is what memory tells the history of the VM with that id; the host adds what it knows of the disks. Errors: ErrState
// before it is over.
func (r *RAM) Attempt(id string) (Attempt, error) {
	a := NewAttempt()
	a.ID = id
	var c C.struct_migbuf_attempt
	if err := a.toC("ram_attempt", &c); err != nil {
		return Attempt{}, err
	}
	if err := r.call("ram_attempt", func() C.int { return C.migbuf_ram_attempt(r.r, &c) }); err != nil {
		return Attempt{}, err
	}
	return attemptOf(&c), nil
}

// Save gives all that a restarted host needs as text. Save it when RAMInfo.TextRevision has changed, before the next command.
func (r *RAM) Save() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text, err := saved("ram_save", func(text *C.char, capacity C.size_t, length *C.size_t) C.int {
		return C.migbuf_ram_save(r.r, text, capacity, length)
	})
	return text, ofHandle(r.r != nil, "NewRAM", err)
}
