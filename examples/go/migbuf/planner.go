// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import "unsafe"

// PlannerLink is one link.
type PlannerLink struct {
	BytesPerS     float64 // its mean over the last minute, above 0
	FlowBytesPerS float64 // most that one migration gets of it, above 0; +Inf: as much as there is
}

// PlannerGuest is one running migration, as the planner sees it. The last four come from a [Forecast].
type PlannerGuest struct {
	ID          uint64 // breaks ties, each once
	Link        uint32 // index of its link
	draining    uint32
	Place       uint32 // of the last plan, so that sorting is quick; any number will do
	reserved    uint32
	Weight      float64 // an administrator's, above 0: its part of the link and of what is given
	FileBytes   float64 // its files in the volume
	LeftBytes   float64 // base still to copy or, draining, overlay still to send
	NeedBytes   float64 // what the last plan forecast as its growth; 0 at first
	Remaining   float64 // bytes its files would still grow by if the guest went on for ever; +Inf where not known
	GrowthRatio float64 // bytes of file per unit byte written, 0 to 1
	Rate        float64 // what it writes, unit bytes/s
	Peak        float64 // the peaks of that, unit bytes/s
}

// SetDraining says whether its overlay is being sent.
func (g *PlannerGuest) SetDraining(on bool) {
	g.draining = 0
	if on {
		g.draining = 1
	}
}

// PlannerPlan is what is planned for one migration.
type PlannerPlan struct {
	SendBytes float64 // still to send, with what the guest adds meanwhile
	FinishS   float64 // until its files are deleted, s
	NeedBytes float64 // forecast growth until then: keep it for the next tick's guest
	Demand    float64 // the growth it would like above the floor, bytes/s
	Cap       float64 // most that it and all that leave later may grow together, bytes/s
	Growth    float64 // the growth it gets above the floor, bytes/s
	Rate      float64 // what its guest may write, unit bytes/s; +Inf: no throttle
	Place     uint32  // 0: leaves first
	cut       uint32
}

// Cut tells whether it got less than its demand.
func (p *PlannerPlan) Cut() bool { return p.cut != 0 }

// PlannerOptions are what all share. Start from [DefaultPlannerOptions] to set a field to 0: in a literal, 0 is the default.
type PlannerOptions struct {
	size          uint64
	CapacityBytes float64 // the volume, without what is kept free for drains; 0
	IntervalS     float64 // time between two ticks, s, above 0; 1
	Floor         float64 // what each may write whatever is planned, unit bytes/s; 160000
	Newcomers     float64 // what who stays leaves to who comes, 0 to 1; 0.3
	Explore       float64 // part of an equal part of the volume that may be filled to learn, 0 to 1; 0.25
	Floors        float64 // so many floors are kept free for each until it is over, as far as that is a sixteenth of the volume, 1 to 1000; 1
}

// DefaultPlannerOptions are the library's.
func DefaultPlannerOptions() PlannerOptions {
	var o PlannerOptions
	C.migbuf_planner_options_init((*C.struct_migbuf_planner_options)(unsafe.Pointer(&o)), C.uint64_t(unsafe.Sizeof(o)))
	return o
}

func slots(n int) *C.struct_migbuf_planner_slot {
	return (*C.struct_migbuf_planner_slot)(at(make([]C.struct_migbuf_planner_slot, n)))
}

// PlannerTick plans for all guests at once: one plan each, in their order. [PolicyPlanner] does it inside a [Buffer], with
// the clamps behind it that keep the files within the volume. Errors: ErrInvalid, ErrRange.
func PlannerTick(o PlannerOptions, links []PlannerLink, guests []PlannerGuest) ([]PlannerPlan, error) {
	o = orDefaults(o, DefaultPlannerOptions())
	plans := make([]PlannerPlan, len(guests))
	rc := C.migbuf_planner_tick((*C.struct_migbuf_planner_options)(unsafe.Pointer(&o)),
		(*C.struct_migbuf_planner_link)(at(links)), C.size_t(len(links)),
		(*C.struct_migbuf_planner_guest)(at(guests)), C.size_t(len(guests)),
		slots(len(guests)+len(links)), (*C.struct_migbuf_planner_plan)(at(plans)))
	return plans, failed("planner_tick", rc)
}

// PlannerFinish tells when flows that share a link fairly are done, in s: send is what each has to send, in bytes,
// ascending (divided by its weight, where there are weights). weight nil: 1 each. Errors: ErrInvalid, ErrRange.
func PlannerFinish(send, weight []float64, link PlannerLink) ([]float64, error) {
	if err := sameLength("planner_finish", len(send), weight); err != nil {
		return nil, err
	}
	done := make([]float64, len(send))
	rc := C.migbuf_planner_finish(doubles(send), doubles(weight), C.size_t(len(send)), (*C.struct_migbuf_planner_link)(unsafe.Pointer(&link)), doubles(done))
	return done, failed("planner_finish", rc)
}

// PlannerCaps are how much all files that are left at each release may grow together until then, in bytes/s: what is free
// beside them, divided by the time. releaseS never falls. floor is what each may grow anyway; front 1 lets a few migrations
// plan that some of their later writes will be rewrites, 0 does not. Errors: ErrInvalid, ErrRange.
func PlannerCaps(capacityBytes float64, fileBytes, releaseS []float64, floor, front float64) ([]float64, error) {
	if err := sameLength("planner_caps", len(fileBytes), releaseS); err != nil {
		return nil, err
	}
	cap := make([]float64, len(fileBytes))
	rc := C.migbuf_planner_caps(C.double(capacityBytes), doubles(fileBytes), doubles(releaseS), C.size_t(len(fileBytes)), C.double(floor),
		C.double(front), doubles(cap))
	return cap, failed("planner_caps", rc)
}

// PlannerChain is the max-min fair growth below the caps: growth[k] and all behind it never exceed cap[k] together, and
// nobody could have more unless somebody with less had even less. weight nil: 1 each. Errors: ErrInvalid, ErrRange.
func PlannerChain(demand, cap, weight []float64) ([]float64, error) {
	if err := sameLength("planner_chain", len(demand), cap); err != nil {
		return nil, err
	}
	if err := sameLength("planner_chain", len(demand), weight); err != nil {
		return nil, err
	}
	growth := make([]float64, len(demand))
	rc := C.migbuf_planner_chain(doubles(demand), doubles(cap), doubles(weight), C.size_t(len(demand)), slots(len(demand)), doubles(growth))
	return growth, failed("planner_chain", rc)
}

// Order in which waiting migrations start.
type Order int32

// Orders.
const (
	OrderShortest Order = C.MIGBUF_ADMISSION_SHORTEST // smallest disks first: lowest mean completion; large ones wait longest
	OrderFIFO     Order = C.MIGBUF_ADMISSION_FIFO     // first come, first served: where the last completion counts
)

// String is "shortest" or "fifo".
func (o Order) String() string { return text([]string{"unknown", "shortest", "fifo"}, int(o)) }

// Verdict on a waiting migration.
type Verdict int32

// Verdicts.
const (
	VerdictStart      Verdict = C.MIGBUF_VERDICT_START        // start it now
	VerdictLinkBusy   Verdict = C.MIGBUF_VERDICT_LINK_BUSY    // the next on its link, but less than half of its flow would run on idle link
	VerdictNotItsTurn Verdict = C.MIGBUF_VERDICT_NOT_ITS_TURN // another one on the same link is before it
	VerdictNoRoom     Verdict = C.MIGBUF_VERDICT_NO_ROOM      // its turn, but the buffer has no room for it; of Buffer.Turns only
)

// String is "start" and so on.
func (v Verdict) String() string { return C.GoString(C.migbuf_verdict_text(C.int32_t(v))) }

// AdmissionFlow is a migration that runs or waits.
type AdmissionFlow struct {
	ID            uint64 // the migration's
	Link          uint32 // index of its link
	reserved      uint32
	FlowBytesPerS float64 // most it gets on the link; +Inf: the whole link
	Seconds       float64 // running: until its files are deleted, +Inf if not known; waiting: 0
	DiskBytes     float64 // waiting: what it has to send; running: 0
	Arrival       uint64  // waiting: order of asking, any number that rises; running: 0
}

// AdmissionTurn is the answer for one waiting migration.
type AdmissionTurn struct {
	ID              uint64  // the migration's
	Verdict         Verdict // start, or what it waits for
	Place           uint32  // 0: next on its link
	EarliestS       float64 // when it can start if all goes as planned, s from now; +Inf: nobody knows
	WantedBytesPerS float64 // flows that run, and half of its own: must not exceed LinkBytesPerS
	LinkBytesPerS   float64 // what the link carries, and a twentieth
}

// AdmissionQueue says who starts now, who waits, for what, how long: one answer per waiting migration, in their order. Who is
// next on a link starts when nothing runs there, or when at least half of its flow would run on idle link. [Buffer.Turns]
// asks for room in the buffer too. Errors: ErrInvalid, ErrRange.
func AdmissionQueue(order Order, links []PlannerLink, running, waiting []AdmissionFlow) ([]AdmissionTurn, error) {
	turns := make([]AdmissionTurn, len(waiting))
	rc := C.migbuf_admission_queue(C.int32_t(order), (*C.struct_migbuf_planner_link)(at(links)), C.size_t(len(links)),
		(*C.struct_migbuf_admission_flow)(at(running)), C.size_t(len(running)),
		(*C.struct_migbuf_admission_flow)(at(waiting)), C.size_t(len(waiting)),
		slots(len(running)+2*len(waiting)), (*C.struct_migbuf_admission_turn)(at(turns)))
	return turns, failed("admission_queue", rc)
}
