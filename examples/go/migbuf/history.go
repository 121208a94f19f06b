// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/history.h>
import "C"

import "unsafe"

// AttemptOutcome is how an attempt ended.
type AttemptOutcome int32

// Outcomes.
const (
	AttemptOutcomeMoved   AttemptOutcome = C.MIGBUF_ATTEMPT_MOVED   // the guest runs at the target
	AttemptOutcomeBack    AttemptOutcome = C.MIGBUF_ATTEMPT_BACK    // given up on purpose: the guest is where it was
	AttemptOutcomeFailed  AttemptOutcome = C.MIGBUF_ATTEMPT_FAILED  // it failed: the guest is where it was
	AttemptOutcomeLost    AttemptOutcome = C.MIGBUF_ATTEMPT_LOST    // the guest is gone
	AttemptOutcomeRefused AttemptOutcome = C.MIGBUF_ATTEMPT_REFUSED // it never began
)

// String is the library's word for it.
func (o AttemptOutcome) String() string {
	return C.GoString(C.migbuf_attempt_outcome_text(C.int32_t(o)))
}

// AttemptPhase is where an attempt ended.
type AttemptPhase int32

// Phases.
const (
	AttemptPhaseAdmission AttemptPhase = C.MIGBUF_ATTEMPT_ADMISSION // before it began
	AttemptPhaseBase      AttemptPhase = C.MIGBUF_ATTEMPT_BASE      // while the disk's base was copied
	AttemptPhaseMirror    AttemptPhase = C.MIGBUF_ATTEMPT_MIRROR    // while the overlay was mirrored
	AttemptPhaseRAM       AttemptPhase = C.MIGBUF_ATTEMPT_RAM       // while memory was sent
	AttemptPhaseSwitch    AttemptPhase = C.MIGBUF_ATTEMPT_SWITCH    // while nobody ran
	AttemptPhaseTarget    AttemptPhase = C.MIGBUF_ATTEMPT_TARGET    // at the target
)

// String is the library's word for it.
func (p AttemptPhase) String() string { return C.GoString(C.migbuf_attempt_phase_text(C.int32_t(p))) }

// AttemptWhy is why an attempt ended.
type AttemptWhy int32

// Reasons.
const (
	AttemptWhyDone          AttemptWhy = C.MIGBUF_ATTEMPT_DONE           // there was nothing left to do
	AttemptWhyDeadline      AttemptWhy = C.MIGBUF_ATTEMPT_DEADLINE       // its deadline passed
	AttemptWhyNoConvergence AttemptWhy = C.MIGBUF_ATTEMPT_NO_CONVERGENCE // memory was dirtied faster than it could be sent
	AttemptWhyNoSpace       AttemptWhy = C.MIGBUF_ATTEMPT_NO_SPACE       // no room
	AttemptWhyLinkDown      AttemptWhy = C.MIGBUF_ATTEMPT_LINK_DOWN      // the link broke
	AttemptWhyPeerGone      AttemptWhy = C.MIGBUF_ATTEMPT_PEER_GONE      // the other host or its QEMU died
	AttemptWhyCancelled     AttemptWhy = C.MIGBUF_ATTEMPT_CANCELLED      // a person said so
	AttemptWhyByQEMU        AttemptWhy = C.MIGBUF_ATTEMPT_BY_QEMU        // QEMU refused a command
	AttemptWhyBlocked       AttemptWhy = C.MIGBUF_ATTEMPT_BLOCKED        // a device of the VM cannot be migrated
	AttemptWhyNobodyKnows   AttemptWhy = C.MIGBUF_ATTEMPT_NOBODY_KNOWS   // another reason, or none that is known
)

// String is the library's word for it.
func (w AttemptWhy) String() string { return C.GoString(C.migbuf_attempt_why_text(C.int32_t(w))) }

// AttemptUnknown stands in numbers of an [Attempt] that are not known.
const AttemptUnknown = uint64(C.MIGBUF_ATTEMPT_UNKNOWN)

// Bounds of a history.
const (
	HistoryLines = C.MIGBUF_HISTORY_LINES // attempts that are kept; of older ones the count stays
	HistoryBytes = C.MIGBUF_HISTORY_BYTES // a text is never longer
)

// AttemptNumbers are the figures of an attempt. What is not known is [AttemptUnknown].
type AttemptNumbers struct {
	Number         uint64 // the how-manieth of this VM, from 1; HistoryAppend sets it
	AtS            uint64 // when it ended, s since 1970
	EarlierMoved   uint64 // how many before this one moved; HistoryAppend sets it, as the four below
	EarlierBack    uint64 // came back
	EarlierFailed  uint64 // failed
	EarlierLost    uint64 // were lost
	EarlierRefused uint64 // never began
	RAMMs          uint64 // how long memory was sent
	DowntimeMs     uint64 // how long nobody ran
	SetBytes       uint64 // writable working set
	DirtyBytesPerS uint64 // page touches
	GrowthPpm      uint64 // growth of the overlay per byte written, 1'000'000: 1
	WriteBytesPerS uint64 // the guest's disk writes
	EncodingPpm    uint64 // bytes sent per dirty byte, 1'000'000: 1
	LinkBytesPerS  uint64 // what memory got of the link
	ThrottlePct    uint64 // the highest CPU throttle that was in force, percent
	LimitMs        uint64 // the last downtime-limit
	Rounds         uint64 // of memory
	RAMBytes       uint64 // memory in use
	SentBytes      uint64 // sent of memory
	DiskMs         uint64 // how long the base was copied
	MirrorMs       uint64 // how long the overlay was mirrored
	DiskBytes      uint64 // of the disks that were copied
	PeakBytes      uint64 // the overlay at its largest
}

// Attempt is one migration of a VM that has ended. Start from [NewAttempt].
type Attempt struct {
	ID       string         // the VM, never empty, at most 64 bytes; its uuid is best
	From     string         // the host it left, "" not known
	To       string         // the host it went to, "" not known
	QEMU     string         // QEMU's version, for people, at most 32 bytes
	Outcome  AttemptOutcome // how it ended
	Phase    AttemptPhase   // where
	Why      AttemptWhy     // and why
	PostCopy bool           // it went by post-copy
	AttemptNumbers
}

// NewAttempt is one of which nothing is known.
func NewAttempt() Attempt {
	var c C.struct_migbuf_attempt
	C.migbuf_attempt_init(&c)
	return attemptOf(&c)
}

func attemptOf(c *C.struct_migbuf_attempt) Attempt {
	return Attempt{ID: textIn(c.id[:]), From: textIn(c.from[:]), To: textIn(c.to[:]), QEMU: textIn(c.qemu[:]),
		Outcome: AttemptOutcome(c.outcome), Phase: AttemptPhase(c.phase), Why: AttemptWhy(c.why), PostCopy: c.post_copy != 0,
		AttemptNumbers: *(*AttemptNumbers)(unsafe.Pointer(&c.number))}
}

// toC fails for a name that is too long.
func (a *Attempt) toC(op string, c *C.struct_migbuf_attempt) error {
	if len(a.ID) >= len(c.id) || len(a.From) >= len(c.from) || len(a.To) >= len(c.to) || len(a.QEMU) >= len(c.qemu) {
		return &Error{Op: op, Code: ErrTooBig, Text: "a name is too long"}
	}
	C.migbuf_attempt_init(c)
	putText(c.id[:], a.ID)
	putText(c.from[:], a.From)
	putText(c.to[:], a.To)
	putText(c.qemu[:], a.QEMU)
	c.outcome, c.phase, c.why = C.int32_t(a.Outcome), C.int32_t(a.Phase), C.int32_t(a.Why)
	if a.PostCopy {
		c.post_copy = 1
	}
	*(*AttemptNumbers)(unsafe.Pointer(&c.number)) = a.AttemptNumbers
	return nil
}

func chars(s string) (*C.char, C.size_t) {
	b := []byte(s + "\x00")
	return (*C.char)(at(b)), C.size_t(len(s))
}

// HistoryAppend adds an attempt to the text of a VM's history, which travels with it; "" is one without any. It sets
// Attempt.Number, and the counts of earlier ones. Errors: ErrInvalid, ErrRange, ErrTooBig.
func HistoryAppend(text string, a Attempt) (string, error) {
	const op = "history_append"
	var c C.struct_migbuf_attempt
	if err := a.toC(op, &c); err != nil {
		return "", err
	}
	t, n := chars(text)
	return saved(op, func(out *C.char, capacity C.size_t, length *C.size_t) C.int {
		return C.migbuf_history_append(t, n, &c, out, capacity, length)
	})
}

// HistoryMerge makes one history of two: the order does not matter, and what is in both is there once. Errors: ErrTooBig.
func HistoryMerge(a, b string) (string, error) {
	if a == "" && b == "" {
		return "", nil
	}
	ta, na := chars(a)
	tb, nb := chars(b)
	return saved("history_merge", func(out *C.char, capacity C.size_t, length *C.size_t) C.int {
		return C.migbuf_history_merge(ta, na, tb, nb, out, capacity, length)
	})
}

// HistoryRead gives an attempt by its index, 0 being the newest, and false where there is none. Errors: ErrTooBig.
func HistoryRead(text string, index int) (Attempt, bool, error) {
	if index < 0 {
		return Attempt{}, false, nil
	}
	var c C.struct_migbuf_attempt
	t, n := chars(text)
	rc := C.migbuf_history_read(t, n, C.size_t(index), &c)
	if rc != 1 {
		return Attempt{}, false, failed("history_read", rc)
	}
	return attemptOf(&c), true, nil
}

// HistoryDescribe is a history in one sentence: "attempt 24 of vm1: 23 moved, the last failed in ram, no convergence". name
// is what people call the VM. Errors: ErrInvalid, ErrTooBig.
func HistoryDescribe(text, name string) (string, error) {
	t, n := chars(text)
	said := ""
	err := withText("history_describe", name, func(c *C.char) C.int {
		s, err := saved("history_describe", func(out *C.char, capacity C.size_t, length *C.size_t) C.int {
			return C.migbuf_history_describe(t, n, c, out, capacity, length)
		})
		said = s
		if e, ok := err.(*Error); ok {
			return C.int(e.Code)
		}
		return 0
	})
	return said, err
}

// Prior is what is believed of a VM before it starts. The fields that end in Most are the bounds that nine in ten stay below.
type Prior struct {
	size           uint64
	WriteBytesPerS float64 // disk writes
	WriteMost      float64 // its bound
	GrowthRatio    float64 // growth of the overlay per byte written, at most 1
	GrowthMost     float64 // its bound
	DirtyBytesPerS float64 // page touches
	DirtyMost      float64 // its bound
	SetBytes       float64 // writable working set
	SetMost        float64 // its bound
	Encoding       float64 // bytes sent per dirty byte
	EncodingMost   float64 // its bound
	Success        float64 // how likely it moves, 0 to 1
	Attempts       uint64  // Number of the last
	Same           uint32  // so many in a row ended in the same phase for the same reason without moving; from 2 on: agree on more
	reserved       uint32
}

func (p *Prior) c() *C.struct_migbuf_prior { return (*C.struct_migbuf_prior)(unsafe.Pointer(p)) }

// NewPrior is what is believed of a VM without a history.
func NewPrior(ramBytes uint64) Prior {
	var p Prior
	C.migbuf_prior_init(p.c(), C.uint64_t(unsafe.Sizeof(p)), C.uint64_t(ramBytes))
	return p
}

// HistoryPrior is what a history says on top of these beliefs. Errors: ErrInvalid, ErrRange, ErrTooBig.
func HistoryPrior(text string, nowS uint64, beliefs Prior) (Prior, error) {
	t, n := chars(text)
	p := beliefs
	rc := C.migbuf_history_prior(t, n, C.uint64_t(nowS), beliefs.c(), p.c())
	return p, failed("history_prior", rc)
}
