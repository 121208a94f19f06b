// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import (
	"time"
	"unsafe"
)

// ThrottleConstants of [ThrottleRate]. Start from [DefaultThrottleConstants] to set a field to 0: in a literal, 0 is the
// default.
type ThrottleConstants struct {
	size             uint64
	TauS             float64 // time in which a bin's bytes become a rate, s, above 0; 1
	EpsilonBytes     float64 // softens the pole at a full bin, above 0; 10000
	EpsilonBytesPerS float64 // the rate of a full bin; 10000
}

// DefaultThrottleConstants are the library's.
func DefaultThrottleConstants() ThrottleConstants {
	var c ThrottleConstants
	C.migbuf_throttle_constants_init(c.c(), C.uint64_t(unsafe.Sizeof(c)))
	return c
}

func (c *ThrottleConstants) c() *C.struct_migbuf_throttle_constants {
	return (*C.struct_migbuf_throttle_constants)(unsafe.Pointer(c))
}

// ThrottleRate is the paper's rate of one migration before any clamp, made exact, in bytes/s: capacityBytes is the size of
// the open bins it lies in, usedBytes what lies in them, priority its mean position in the stacks, at least 1. It falls
// with all that is used, and with the priority's number; a full bin gives EpsilonBytesPerS. Errors: ErrInvalid, ErrRange.
func ThrottleRate(capacityBytes, usedBytes, priority float64, c ThrottleConstants) (float64, error) {
	c = orDefaults(c, DefaultThrottleConstants())
	var rate C.double
	rc := C.migbuf_throttle_rate(C.double(capacityBytes), C.double(usedBytes), C.double(priority), c.c(), &rate)
	return float64(rate), failed("throttle_rate", rc)
}

// ThrottleLiteral is the formula as printed, in bytes/s, with its pole: beyond a full bin it stops throttling. Not for use
// on a guest. Errors: ErrInvalid, ErrRange.
func ThrottleLiteral(binBytes, fileBytes, priority, linkShareBytesPerS float64, c ThrottleConstants) (float64, error) {
	c = orDefaults(c, DefaultThrottleConstants())
	var rate C.double
	rc := C.migbuf_throttle_literal(C.double(binBytes), C.double(fileBytes), C.double(priority), C.double(linkShareBytesPerS), c.c(), &rate)
	return float64(rate), failed("throttle_literal", rc)
}

// ThrottleHardCap is the highest rate, in bytes/s, that cannot outgrow the room before the next decision lands, whatever
// the guest does: amplification is file bytes per byte let through, intervalS the longest time to the next decision,
// burstS QEMU's bucket (0.1), requestBytes one request that passes as a whole. Errors: ErrInvalid, ErrRange.
func ThrottleHardCap(roomBytes, amplification, intervalS, burstS, requestBytes float64) (float64, error) {
	var rate C.double
	rc := C.migbuf_throttle_hard_cap(C.double(roomBytes), C.double(amplification), C.double(intervalS), C.double(burstS), C.double(requestBytes), &rate)
	return float64(rate), failed("throttle_hard_cap", rc)
}

// ThrottlePending is what files may still grow by, in bytes, under the old rate between measuring and the new limit landing,
// lagS later. The rates may be +Inf; if both are, so is the result. Errors: ErrInvalid, ErrRange.
func ThrottlePending(rateBytesPerS, deviceBytesPerS, amplification, lagS, burstS, requestBytes float64) (float64, error) {
	var bytes C.double
	rc := C.migbuf_throttle_pending(C.double(rateBytesPerS), C.double(deviceBytesPerS), C.double(amplification), C.double(lagS), C.double(burstS),
		C.double(requestBytes), &bytes)
	return float64(bytes), failed("throttle_pending", rc)
}

// ThrottleShave is the common level l at which claims fit: the sum of min(amount, weight * l) is the total. +Inf when they
// fit as they are. weight nil: 1 each. Errors: ErrInvalid, ErrRange.
func ThrottleShave(amount, weight []float64, total float64) (float64, error) {
	if err := sameLength("throttle_shave", len(amount), weight); err != nil {
		return 0, err
	}
	var level C.double
	rc := C.migbuf_throttle_shave(doubles(amount), doubles(weight), C.size_t(len(amount)), C.double(total), scratch(len(amount)), &level)
	return float64(level), failed("throttle_shave", rc)
}

func sameLength(op string, n int, optional []float64) error {
	if optional != nil && len(optional) != n {
		return &Error{Op: op, Code: ErrInvalid, Text: "slices of different lengths"}
	}
	return nil
}

// ThrottleHosts gives the greatest rates y <= x with y[guest] <= y[host] for every guest of every host; guests[i] are those
// of host i. Errors: ErrInvalid, ErrRange for a guest that is none.
func ThrottleHosts(x []float64, guests [][]int) ([]float64, error) {
	if len(guests) != len(x) {
		return nil, &Error{Op: "throttle_hosts", Code: ErrInvalid, Text: "slices of different lengths"}
	}
	first, guest := make([]uintptr, 1, len(x)+1), make([]uintptr, 0, len(x)+1)
	for _, of := range guests {
		for _, g := range of {
			guest = append(guest, uintptr(g))
		}
		first = append(first, uintptr(len(guest)))
	}
	y := make([]float64, len(x))
	guest = append(guest, 0) // never empty
	rc := C.migbuf_throttle_hosts(doubles(x), C.size_t(len(x)), (*C.size_t)(at(first)), (*C.size_t)(at(guest)), scratch(2*len(x)), doubles(y))
	return y, failed("throttle_hosts", rc)
}

// PriorityMean is the paper's priority: the mean of the stack positions of one migration, the bottom being 1. The nearer to
// 1, the more it may write. Errors: ErrInvalid for none, ErrRange for a position 0.
func PriorityMean(positions []uint32) (float64, error) {
	var mean C.double
	rc := C.migbuf_priority_mean((*C.uint32_t)(at(positions)), C.size_t(len(positions)), &mean)
	return float64(mean), failed("priority_mean", rc)
}

// PlacementShares cuts a capacity into n bins by weight, 1 to 1000000 each, to the byte. weight nil: equal bins. Errors:
// ErrInvalid, ErrRange.
func PlacementShares(capacityBytes uint64, weight []uint32, n int) ([]uint64, error) {
	if n < 0 || (weight != nil && len(weight) != n) {
		return nil, &Error{Op: "placement_shares", Code: ErrInvalid, Text: "slices of different lengths"}
	}
	share := make([]uint64, n)
	rc := C.migbuf_placement_shares(C.uint64_t(capacityBytes), (*C.uint32_t)(at(weight)), C.size_t(n), (*C.uint64_t)(at(share)))
	return share, failed("placement_shares", rc)
}

// PlacementPour pours an amount over bins, the least used first, each as much as it has room for: what each takes, and the
// rest that found no room. Errors: ErrInvalid, ErrRange.
func PlacementPour(usedBytes, shareBytes []float64, amountBytes float64) (placed []float64, rest float64, err error) {
	if err := sameLength("placement_pour", len(usedBytes), shareBytes); err != nil {
		return nil, 0, err
	}
	var left C.double
	placed = make([]float64, len(usedBytes))
	rc := C.migbuf_placement_pour(doubles(usedBytes), doubles(shareBytes), C.size_t(len(usedBytes)), C.double(amountBytes),
		scratch(len(usedBytes)), doubles(placed), &left)
	return placed, float64(left), failed("placement_pour", rc)
}

// PlacementLiteralHalving is the paper's own rule, for comparison: the number of halvings after which the amount fits in
// equal parts. Errors: ErrNoSpace where it never does, ErrInvalid, ErrRange for more than 40 halvings.
func PlacementLiteralHalving(roomBytes []float64, amountBytes float64, maxHalvings uint32) (int, error) {
	rc := C.migbuf_placement_literal_halving(doubles(roomBytes), C.size_t(len(roomBytes)), C.double(amountBytes), C.uint32_t(maxHalvings))
	return int(rc), failed("placement_literal_halving", rc)
}

// PlacementLiteralReclaim is the paper's own rule at a completion, for comparison: how many shards, smallest first, go home
// whole. Errors: ErrNoSpace where not even the smallest does, ErrInvalid, ErrRange.
func PlacementLiteralReclaim(shardBytes []float64, homeRoomBytes float64) (int, error) {
	rc := C.migbuf_placement_literal_reclaim(doubles(shardBytes), C.size_t(len(shardBytes)), C.double(homeRoomBytes))
	return int(rc), failed("placement_literal_reclaim", rc)
}

// Growth is how much a file really grows per unit the throttle lets through. Start from [NewGrowth]; the zero value is the
// same. Ratio falls slowly and rises at once: a guest that changes from appending to random writes is slowed down after one
// sample.
type Growth struct {
	Ratio                           float64 // growth per unit, as a part of the unit: 0.001 to 3; 1 when nothing is known
	units, grown                    float64
	fileBytes, writes, writtenBytes uint64
	Known                           uint64 // samples seen
	credit, unitsPerS               float64
}

// NewGrowth knows nothing: ratio 1.
func NewGrowth() Growth {
	var g Growth
	C.migbuf_growth_init((*C.struct_migbuf_growth)(unsafe.Pointer(&g)))
	return g
}

// Sample takes one more: the file's allocated bytes and the guest's counters, so long after the last one; unitsPerS is the
// limit in force since then (+Inf: none, 0: the guest is paused), requestUnits the largest request. The first sample and
// counters that fall only set the marks. Errors: ErrInvalid, ErrRange.
func (g *Growth) Sample(unitBytes uint64, since time.Duration, fileBytes, writes, writtenBytes uint64, unitsPerS, requestUnits float64) error {
	if *g == (Growth{}) {
		*g = NewGrowth()
	}
	return failed("growth_sample", C.migbuf_growth_sample((*C.struct_migbuf_growth)(unsafe.Pointer(g)), C.uint64_t(unitBytes), C.double(since.Seconds()),
		C.uint64_t(fileBytes), C.uint64_t(writes), C.uint64_t(writtenBytes), C.double(unitsPerS), C.double(requestUnits)))
}

// How the forecast remembers.
const (
	ForecastMemoryS    float64 = C.MIGBUF_FORECAST_MEMORY_S    // time constant of everything that is smoothed, s
	ForecastPriorBytes float64 = C.MIGBUF_FORECAST_PRIOR_BYTES // what a new forecast pretends to have seen
)

// Forecast is what a guest will still add to its file: how fast it writes, how much of that is new, how much new there is
// left. It forgets with a time constant of a minute. Start from [NewForecast]; the zero value is one of rate 0.
type Forecast struct {
	Rate         float64 // what it writes, unit bytes/s over the last minute
	Peak         float64 // the peaks of that: falls slowly, jumps up at once
	GrownBytes   float64 // recent growth of the file
	RecentBytes  float64 // recent unit bytes written
	GrowthRatio  float64 // the one divided by the other, at most 1
	WrittenBytes float64 // unit bytes since the overlay exists
}

// NewForecast of a guest whose overlay is empty and that wrote so much before, unit bytes/s, 0 when not known. Every write is
// taken to be new until measured otherwise. Errors: ErrInvalid, ErrRange.
func NewForecast(rate float64) (Forecast, error) {
	var f Forecast
	rc := C.migbuf_forecast_init(f.c(), C.double(rate))
	return f, failed("forecast_init", rc)
}

func (f *Forecast) c() *C.struct_migbuf_forecast {
	if *f == (Forecast{}) {
		C.migbuf_forecast_init((*C.struct_migbuf_forecast)(unsafe.Pointer(f)), 0)
	}
	return (*C.struct_migbuf_forecast)(unsafe.Pointer(f))
}

// Update takes what was measured over the last interval: unit bytes written, bytes the file grew by, and the limit in force
// in unit bytes/s (+Inf: none, 0: paused). Errors: ErrInvalid, ErrRange.
func (f *Forecast) Update(intervalS, written, grown, limit float64) error {
	return failed("forecast_update", C.migbuf_forecast_update(f.c(), C.double(intervalS), C.double(written), C.double(grown), C.double(limit)))
}

// Remaining is how many bytes the file would still grow by if the guest went on for ever, at most most: the disk's size
// minus the file. +Inf where every write is still new. Errors: ErrInvalid, ErrRange.
func (f *Forecast) Remaining(fileBytes, most float64) (float64, error) {
	var bytes C.double
	rc := C.migbuf_forecast_remaining(f.c(), C.double(fileBytes), C.double(most), &bytes)
	return float64(bytes), failed("forecast_remaining", rc)
}

// ForecastBend is the z of z / (e^z - 1) = y, for y above 0 and at most 1: how far a growth curve has bent when its slope is
// y of its mean. Errors: ErrInvalid, ErrRange.
func ForecastBend(y float64) (float64, error) {
	var z C.double
	rc := C.migbuf_forecast_bend(C.double(y), &z)
	return float64(z), failed("forecast_bend", rc)
}

// ForecastGrowth is the growth in tS seconds, in bytes, of a guest that writes rate unit bytes/s and has remaining bytes
// left to grow. Errors: ErrInvalid, ErrRange.
func ForecastGrowth(remaining, growthRatio, rate, tS float64) (float64, error) {
	var bytes C.double
	rc := C.migbuf_forecast_growth(C.double(remaining), C.double(growthRatio), C.double(rate), C.double(tS), &bytes)
	return float64(bytes), failed("forecast_growth", rc)
}

// ForecastRateFor is the way back: the rate, unit bytes/s, whose growth in tS seconds is the budget; +Inf where no rate
// reaches it. Errors: ErrInvalid, ErrRange.
func ForecastRateFor(remaining, growthRatio, budgetBytes, tS float64) (float64, error) {
	var rate C.double
	rc := C.migbuf_forecast_rate_for(C.double(remaining), C.double(growthRatio), C.double(budgetBytes), C.double(tS), &rate)
	return float64(rate), failed("forecast_rate_for", rc)
}
