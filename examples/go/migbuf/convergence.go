// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/convergence.h>
// #include <migbuf/ram.h>
import "C"

import "unsafe"

// RAMPhase is where a migration stands, by the status of query-migrate.
type RAMPhase int32

// Phases.
const (
	RAMPhaseNone          RAMPhase = C.MIGBUF_RAM_PHASE_NONE           // there was none
	RAMPhaseSetup         RAMPhase = C.MIGBUF_RAM_PHASE_SETUP          // connecting
	RAMPhaseActive        RAMPhase = C.MIGBUF_RAM_PHASE_ACTIVE         // pre-copy, the guest runs
	RAMPhasePreSwitchover RAMPhase = C.MIGBUF_RAM_PHASE_PRE_SWITCHOVER // the guest stands and QEMU waits for migrate-continue
	RAMPhaseDevice        RAMPhase = C.MIGBUF_RAM_PHASE_DEVICE         // the last bytes are under way
	RAMPhasePostcopy      RAMPhase = C.MIGBUF_RAM_PHASE_POSTCOPY       // the guest runs at the target
	RAMPhasePaused        RAMPhase = C.MIGBUF_RAM_PHASE_PAUSED         // the link broke in post-copy
	RAMPhaseRecover       RAMPhase = C.MIGBUF_RAM_PHASE_RECOVER        // it is being mended
	RAMPhaseCompleted     RAMPhase = C.MIGBUF_RAM_PHASE_COMPLETED      // it has moved
	RAMPhaseCancelling    RAMPhase = C.MIGBUF_RAM_PHASE_CANCELLING     // it is being cancelled
	RAMPhaseCancelled     RAMPhase = C.MIGBUF_RAM_PHASE_CANCELLED      // the guest is where it was
	RAMPhaseFailed        RAMPhase = C.MIGBUF_RAM_PHASE_FAILED         // it failed
	RAMPhaseOther         RAMPhase = C.MIGBUF_RAM_PHASE_OTHER          // a status this library does not know
)

// String is "none", "setup" and so on.
func (p RAMPhase) String() string {
	return text([]string{"none", "setup", "active", "pre-switchover", "device", "post-copy", "paused", "recover", "completed", "cancelling",
		"cancelled", "failed", "other"}, int(p))
}

// RAMPhaseOf is the phase of a status of QEMU's: "active" is [RAMPhaseActive], "" [RAMPhaseNone].
func RAMPhaseOf(status string) RAMPhase {
	phase := RAMPhaseOther
	_ = withText("ram_phase", status, func(s *C.char) C.int {
		phase = RAMPhase(C.migbuf_ram_phase(s))
		return 0
	})
	return phase
}

// RAMReport is one answer of query-migrate. It is read by encoding/json; what QEMU leaves out is 0.
type RAMReport struct {
	Status string `json:"status"`     // "" before any migration
	Error  string `json:"error-desc"` // what went wrong
	RAM    *struct {
		Transferred      uint64  `json:"transferred"`       // bytes, all that was sent
		Remaining        uint64  `json:"remaining"`         // bytes
		Total            uint64  `json:"total"`             // bytes, the devices' own memory included
		NormalBytes      uint64  `json:"normal-bytes"`      // of pages sent whole
		PrecopyBytes     uint64  `json:"precopy-bytes"`     // sent before the stop
		DowntimeBytes    uint64  `json:"downtime-bytes"`    // sent while nobody ran
		PostcopyBytes    uint64  `json:"postcopy-bytes"`    // sent in post-copy
		MultifdBytes     uint64  `json:"multifd-bytes"`     // sent by multifd
		Duplicate        uint64  `json:"duplicate"`         // pages of zeros
		Normal           uint64  `json:"normal"`            // pages sent whole
		SyncCount        uint64  `json:"dirty-sync-count"`  // looks at what was written
		PostcopyRequests uint64  `json:"postcopy-requests"` // pages that the target's guest waited for
		PageSize         uint64  `json:"page-size"`         // bytes
		DirtyPagesRate   uint64  `json:"dirty-pages-rate"`  // distinct pages dirty at the last sync, by the time since the one before
		PagesPerSecond   uint64  `json:"pages-per-second"`  // pages/s
		Mbps             float64 `json:"mbps"`              // 10^6 bits/s over the last 100 ms
	} `json:"ram"` // nil where the status has no such figures
	XBZRLE *struct {
		Bytes     uint64 `json:"bytes"`      // sent for the pages below
		Pages     uint64 `json:"pages"`      // pages sent as differences
		CacheSize uint64 `json:"cache-size"` // bytes
		CacheMiss uint64 `json:"cache-miss"` // pages that were not in it
		Overflow  uint64 `json:"overflow"`   // differences as long as the page
	} `json:"xbzrle-cache"` // nil where xbzrle is off
	TotalMs             uint64    `json:"total-time"`              // ms
	SetupMs             uint64    `json:"setup-time"`              // ms
	DowntimeMs          *uint64   `json:"downtime"`                // ms; nil before it is over
	ExpectedDowntimeMs  uint64    `json:"expected-downtime"`       // ms; means nothing before the second sync
	ThrottlePercent     uint64    `json:"cpu-throttle-percentage"` // in force
	PostcopyBlocktimeMs uint64    `json:"postcopy-blocktime"`      // target: ms when no CPU ran
	VCPUBlocktimeMs     []float64 `json:"postcopy-vcpu-blocktime"` // target: ms that each CPU waited for pages
}

func (r *RAMReport) c() C.struct_migbuf_ram_report {
	c := C.struct_migbuf_ram_report{
		phase: C.int32_t(RAMPhaseOf(r.Status)), total_ms: C.uint64_t(r.TotalMs), setup_ms: C.uint64_t(r.SetupMs),
		expected_downtime_ms: C.uint64_t(r.ExpectedDowntimeMs), cpu_throttle_percent: C.uint64_t(r.ThrottlePercent),
		blocktime_ms: C.uint64_t(r.PostcopyBlocktimeMs),
	}
	putText(c.status[:], r.Status)
	putText(c.error[:], r.Error)
	if m := r.RAM; m != nil {
		c.has_ram = 1
		c.ram_transferred_bytes, c.ram_remaining_bytes = C.uint64_t(m.Transferred), C.uint64_t(m.Remaining)
		c.ram_total_bytes, c.ram_normal_bytes = C.uint64_t(m.Total), C.uint64_t(m.NormalBytes)
		c.ram_precopy_bytes, c.ram_downtime_bytes = C.uint64_t(m.PrecopyBytes), C.uint64_t(m.DowntimeBytes)
		c.ram_postcopy_bytes, c.ram_multifd_bytes = C.uint64_t(m.PostcopyBytes), C.uint64_t(m.MultifdBytes)
		c.duplicate_pages, c.normal_pages = C.uint64_t(m.Duplicate), C.uint64_t(m.Normal)
		c.sync_count, c.postcopy_requests = C.uint64_t(m.SyncCount), C.uint64_t(m.PostcopyRequests)
		c.page_bytes, c.dirty_pages_per_s = C.uint64_t(m.PageSize), C.uint64_t(m.DirtyPagesRate)
		c.pages_per_s, c.mbps = C.uint64_t(m.PagesPerSecond), C.double(m.Mbps)
		if m.Mbps < 0 {
			c.mbps = 0
		}
	}
	if x := r.XBZRLE; x != nil {
		c.has_xbzrle = 1
		c.xbzrle_bytes, c.xbzrle_pages, c.xbzrle_cache_bytes = C.uint64_t(x.Bytes), C.uint64_t(x.Pages), C.uint64_t(x.CacheSize)
		c.xbzrle_cache_misses, c.xbzrle_overflows = C.uint64_t(x.CacheMiss), C.uint64_t(x.Overflow)
	}
	if r.DowntimeMs != nil {
		c.has_downtime, c.downtime_ms = 1, C.uint64_t(*r.DowntimeMs)
	}
	if n := len(r.VCPUBlocktimeMs); n > 0 {
		sum := 0.0
		for _, ms := range r.VCPUBlocktimeMs {
			sum += ms
		}
		if sum >= 0 && sum < 1e18 {
			c.blocktime_ms = C.uint64_t(sum / float64(n))
		}
	}
	return c
}

// putText copies as much of a text as there is room for, and its end.
func putText(to []C.char, s string) {
	for i := 0; i < len(s) && i < len(to)-1; i++ {
		to[i] = C.char(s[i])
	}
}

func textIn(from []C.char) string { return C.GoString(&from[0]) }

// RAMRound is what one round of memory told.
type RAMRound struct {
	SpanS           float64 // from its first sync to its last
	DirtyBytes      float64 // dirty at its end
	SentBytes       float64 // sent in it
	ThrottlePercent float64 // CPU throttle while it lasted
	Encoding        float64 // bytes sent per byte of a page that was sent; 1 without xbzrle
}

// RAMRoundsKept is how many rounds are kept.
const RAMRoundsKept = C.MIGBUF_ROUNDS

// RAMRounds are the last rounds of a migration, the newest last, and where the one that runs began. All 0 at first.
type RAMRounds struct {
	Round           [RAMRoundsKept]RAMRound // the first Count are filled
	NowMs           uint64                  // of the last report
	AtMs            uint64                  // when the running one began
	SyncCount       uint64                  // as last reported
	SentBytes       uint64                  // at AtMs
	NormalPages     uint64                  // at AtMs, sent whole
	XBZRLEPages     uint64                  // at AtMs, sent as differences
	XBZRLEBytes     uint64                  // their bytes
	ThrottlePercent uint64                  // in force since the last report
	Finished        uint64                  // rounds that have ended, also those no longer kept
	Count           uint32                  // kept
	Whole           uint32                  // 1: the beginning of the running one was seen
}

func (r *RAMRounds) c() *C.struct_migbuf_rounds { return (*C.struct_migbuf_rounds)(unsafe.Pointer(r)) }

// Update takes an answer of query-migrate of that time, and tells whether a round has ended with it. Ask right after each
// MIGRATION_PASS, or often. Errors: ErrClock, ErrInvalid.
func (r *RAMRounds) Update(nowMs uint64, report *RAMReport) (bool, error) {
	c := report.c()
	rc := C.migbuf_rounds_update(r.c(), C.uint64_t(nowMs), &c)
	return rc == 1, failed("rounds_update", rc)
}

// Guest is the writable working set, in bytes (+Inf where it is not known), and the rate, in bytes/s, at which the guest
// touches pages. known: two rounds differ enough. Errors: ErrState without a round, ErrInvalid.
func (r *RAMRounds) Guest() (setBytes, rateBytesPerS float64, known bool, err error) {
	var set, rate C.double
	rc := C.migbuf_convergence_rounds(r.c(), &set, &rate)
	return float64(set), float64(rate), rc == 1, failed("convergence_rounds", rc)
}

// RAMStationary is the part of a working set that every round finds dirty again, rho being the guest's rate by the link's.
// Errors: ErrInvalid, ErrRange.
func RAMStationary(rho float64) (float64, error) {
	var part C.double
	rc := C.migbuf_convergence_stationary(C.double(rho), &part)
	return float64(part), failed("convergence_stationary", rc)
}

// RAMEstimate gives a working set, in bytes, and a rate, in bytes/s, from what was dirty after two spans of different length.
// Errors: ErrInvalid, ErrRange.
func RAMEstimate(t1S, d1Bytes, t2S, d2Bytes float64) (setBytes, rateBytesPerS float64, err error) {
	var set, rate C.double
	rc := C.migbuf_convergence_estimate(C.double(t1S), C.double(d1Bytes), C.double(t2S), C.double(d2Bytes), &set, &rate)
	return float64(set), float64(rate), failed("convergence_estimate", rc)
}

// RAMLimitMostMs is the largest downtime-limit QEMU takes.
const RAMLimitMostMs = C.MIGBUF_RAM_LIMIT_MOST_MS

// Agreement is what was agreed beforehand with whoever owns the guest. Nothing beyond it is ever decided. In a literal, a
// field that is 0 gets its default; to set one to 0 start from [DefaultAgreement].
type Agreement struct {
	size                uint64
	DeadlineMs          uint64 // for memory, since migrate; 0: 60 s, or 6 times memory by link, whichever is longer
	WantMs              uint32 // downtime-limit to begin with; 100
	MostMs              uint32 // the highest one; 500
	ThrottleMostPercent uint32 // the highest CPU throttle, 0: none; 80
	Postcopy            uint32 // 1: post-copy is agreed. It risks the guest: a link that does not come back loses it
	Force               uint32 // 1: the guest may stand as long as it takes, rather than that the migration fails
	reserved            uint32
}

// DefaultAgreement is the library's: no post-copy, no force.
func DefaultAgreement() Agreement {
	var a Agreement
	C.migbuf_agreement_init(a.c(), C.uint64_t(unsafe.Sizeof(a)))
	return a
}

func (a *Agreement) c() *C.struct_migbuf_agreement {
	return (*C.struct_migbuf_agreement)(unsafe.Pointer(a))
}

// Check tells what is wrong with it: ErrRange, ErrInvalid, or nil.
func (a Agreement) Check() error {
	a = orDefaults(a, DefaultAgreement())
	return failed("agreement_check", C.migbuf_agreement_check(a.c()))
}

// RAMGuest is a guest and its link as the formulas see them. Start from [NewRAMGuest].
type RAMGuest struct {
	size            uint64
	RAMBytes        float64 // memory in use, 0: not known
	LeftBytes       float64 // still to be sent in this round
	ExactBytes      float64 // what a stop now would have to send, 0: LeftBytes
	SetBytes        float64 // writable working set, +Inf where it is not known
	RateBytesPerS   float64 // page touches
	LinkBytesPerS   float64 // what this migration gets
	Encoding        float64 // bytes sent per dirty byte
	FixMs           float64 // of every stop
	ThrottlePercent float64 // in force
	AskedPercent    float64 // asked for, 0: none
	LimitMs         float64 // downtime-limit in force
	ElapsedS        float64 // since migrate
	Known           uint32  // 1: SetBytes and RateBytesPerS come from two spans that differ
	BadRounds       uint32  // as the last decision returned it
	NewRound        uint32  // 1: a round has ended since the last decision
	Rounds          uint32  // that have ended
}

// NewRAMGuest is one of which nothing is known; LinkBytesPerS must be set.
func NewRAMGuest() RAMGuest {
	var g RAMGuest
	C.migbuf_convergence_init(g.c(), C.uint64_t(unsafe.Sizeof(g)))
	return g
}

func (g *RAMGuest) c() *C.struct_migbuf_convergence {
	return (*C.struct_migbuf_convergence)(unsafe.Pointer(g))
}

// LeastMs is the shortest stop that pre-copy reaches with the throttle in force. Errors: ErrInvalid, ErrRange.
func (g RAMGuest) LeastMs() (float64, error) {
	var ms C.double
	rc := C.migbuf_convergence_least(g.c(), &ms)
	return float64(ms), failed("convergence_least", rc)
}

// Throttle is the smallest CPU throttle, in percent, with which a stop of mostMs is reached; 101: none does. Errors:
// ErrInvalid, ErrRange.
func (g RAMGuest) Throttle(mostMs float64) (uint32, error) {
	var percent C.uint32_t
	rc := C.migbuf_convergence_throttle(g.c(), C.double(mostMs), &percent)
	return uint32(percent), failed("convergence_throttle", rc)
}

// Finish gives the seconds until it is over and how long the guest then stands, with this downtime-limit and all else as it
// is; +Inf: never. Errors: ErrInvalid, ErrRange.
func (g RAMGuest) Finish(limitMs float64) (seconds, downtimeMs float64, err error) {
	var s, ms C.double
	rc := C.migbuf_convergence_finish(g.c(), C.double(limitMs), &s, &ms)
	return float64(s), float64(ms), failed("convergence_finish", rc)
}

// RAMAction is what to do with a migration of memory.
type RAMAction int32

// Actions.
const (
	RAMActionKeep     RAMAction = C.MIGBUF_RAM_KEEP     // it will be over in time as it is
	RAMActionDowntime RAMAction = C.MIGBUF_RAM_DOWNTIME // raise the downtime-limit
	RAMActionThrottle RAMAction = C.MIGBUF_RAM_THROTTLE // slow the guest's CPUs
	RAMActionWait     RAMAction = C.MIGBUF_RAM_WAIT     // nothing is known yet, or not in force yet
	RAMActionPostcopy RAMAction = C.MIGBUF_RAM_POSTCOPY // migrate-start-postcopy
	RAMActionForce    RAMAction = C.MIGBUF_RAM_FORCE    // the guest stands until all is sent
	RAMActionAbort    RAMAction = C.MIGBUF_RAM_ABORT    // the guest stays where it is
	RAMActionStop     RAMAction = C.MIGBUF_RAM_STOP     // stop the guest: only other projects do so
)

// String is "keep", "raise the downtime" and so on.
func (a RAMAction) String() string { return C.GoString(C.migbuf_ram_action_text(C.int32_t(a))) }

// RAMReason is why.
type RAMReason int32

// Reasons.
const (
	RAMReasonInTime    RAMReason = C.MIGBUF_RAM_REASON_IN_TIME   // the forecast keeps the deadline
	RAMReasonLimit     RAMReason = C.MIGBUF_RAM_REASON_LIMIT     // a longer stop keeps it
	RAMReasonThrottle  RAMReason = C.MIGBUF_RAM_REASON_THROTTLE  // a slower guest would keep it
	RAMReasonUnknown   RAMReason = C.MIGBUF_RAM_REASON_UNKNOWN   // too few rounds have ended
	RAMReasonSaturated RAMReason = C.MIGBUF_RAM_REASON_SATURATED // it does not converge
	RAMReasonLate      RAMReason = C.MIGBUF_RAM_REASON_LATE      // the deadline has passed
)

// String is "in time", "a longer stop will do" and so on.
func (r RAMReason) String() string { return C.GoString(C.migbuf_ram_reason_text(C.int32_t(r))) }

// RAMDecision is what to do.
type RAMDecision struct {
	Action          RAMAction // what
	Reason          RAMReason // why
	LimitMs         uint32    // downtime-limit from now on
	ThrottlePercent uint32    // CPU throttle to have asked for, 0: none
	BadRounds       uint32    // for RAMGuest.BadRounds the next time
	reserved        uint32
}

// Decide says what to do, once per round that has ended and when it is late. Errors: ErrInvalid, ErrRange.
func (g RAMGuest) Decide(a Agreement) (RAMDecision, error) {
	a = orDefaults(a, DefaultAgreement())
	var d RAMDecision
	rc := C.migbuf_convergence_decide(g.c(), a.c(), (*C.struct_migbuf_ram_decision)(unsafe.Pointer(&d)))
	return d, failed("convergence_decide", rc)
}

// RAMVerdict is whether it will be over in time by pre-copy, with what was agreed.
type RAMVerdict int32

// Verdicts.
const (
	RAMVerdictYes     RAMVerdict = C.MIGBUF_RAM_YES     // as it is
	RAMVerdictNo      RAMVerdict = C.MIGBUF_RAM_NO      // not even the highest throttle makes the stop as short as agreed
	RAMVerdictUnknown RAMVerdict = C.MIGBUF_RAM_UNKNOWN // neither is known
)

// String is "yes", "no" or "unknown".
func (v RAMVerdict) String() string { return text([]string{"unknown", "yes", "no", "unknown"}, int(v)) }

// RAMForecast is what will become of it.
type RAMForecast struct {
	size           uint64
	Verdict        RAMVerdict // in time?
	reserved       int32
	DeadlineS      float64 // since migrate
	EndS           float64 // since migrate; +Inf: never as it is
	EndLeastS      float64 // nine in ten end later
	EndMostS       float64 // nine in ten end sooner
	DowntimeMs     float64 // with the limit in force
	DowntimeMostMs float64 // with every raise that was agreed; tell people this one
	SentBytes      float64 // still to be sent
	LostS          float64 // guest time still to be lost
}

// Forecast says when it will be over, with bars. Errors: ErrInvalid, ErrRange.
func (g RAMGuest) Forecast(a Agreement) (RAMForecast, error) {
	a = orDefaults(a, DefaultAgreement())
	f := RAMForecast{size: uint64(unsafe.Sizeof(RAMForecast{}))}
	rc := C.migbuf_convergence_forecast(g.c(), a.c(), (*C.struct_migbuf_ram_forecast)(unsafe.Pointer(&f)))
	return f, failed("convergence_forecast", rc)
}

// RAMTurn is a VM whose disk is over there and whose memory waits for the link.
type RAMTurn struct {
	ID        uint64  // the migration's
	HeldBytes float64 // of the shared buffer, until its memory is over there
	Seconds   float64 // that takes
	Ready     uint32  // 1: it may start
	reserved  uint32
}

// RAMOrder is the order in which memory goes over one link, one VM at a time, as indices, and how many of them are ready.
// Errors: ErrInvalid, ErrRange.
func RAMOrder(turns []RAMTurn) (order []uint32, ready int, err error) {
	order = make([]uint32, len(turns))
	rc := C.migbuf_convergence_order((*C.struct_migbuf_ram_turn)(at(turns)), C.size_t(len(turns)), (*C.uint32_t)(at(order)))
	if rc < 0 {
		return nil, 0, failed("convergence_order", rc)
	}
	return order, int(rc), nil
}
