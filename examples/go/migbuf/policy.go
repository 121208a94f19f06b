// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import (
	"time"
	"unsafe"
)

// ThrottleConstants of the rate. Start from [DefaultThrottleConstants].
type ThrottleConstants struct {
	size             uint64
	TauS             float64
	EpsilonBytes     float64
	EpsilonBytesPerS float64
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

// ThrottleRate is the paper's rate of one migration before any clamp, made exact: throttle.h.
func ThrottleRate(capacityBytes, usedBytes, priority float64, c ThrottleConstants) (float64, error) {
	var rate C.double
	rc := C.migbuf_throttle_rate(C.double(capacityBytes), C.double(usedBytes), C.double(priority), c.c(), &rate)
	return float64(rate), failed("throttle_rate", rc)
}

// ThrottleLiteral is the formula as printed, pole included. Not for use on a guest.
func ThrottleLiteral(binBytes, fileBytes, priority, linkShareBytesPerS float64, c ThrottleConstants) (float64, error) {
	var rate C.double
	rc := C.migbuf_throttle_literal(C.double(binBytes), C.double(fileBytes), C.double(priority), C.double(linkShareBytesPerS), c.c(), &rate)
	return float64(rate), failed("throttle_literal", rc)
}

// ThrottleHardCap is the highest rate that cannot outgrow the room before the next decision lands.
func ThrottleHardCap(roomBytes, amplification, intervalS, burstS, requestBytes float64) (float64, error) {
	var rate C.double
	rc := C.migbuf_throttle_hard_cap(C.double(roomBytes), C.double(amplification), C.double(intervalS), C.double(burstS), C.double(requestBytes), &rate)
	return float64(rate), failed("throttle_hard_cap", rc)
}

// ThrottlePending is what may still be written under the old rate between measuring and the new limit landing.
func ThrottlePending(rateBytesPerS, deviceBytesPerS, amplification, lagS, burstS, requestBytes float64) (float64, error) {
	var bytes C.double
	rc := C.migbuf_throttle_pending(C.double(rateBytesPerS), C.double(deviceBytesPerS), C.double(amplification), C.double(lagS), C.double(burstS),
		C.double(requestBytes), &bytes)
	return float64(bytes), failed("throttle_pending", rc)
}

// ThrottleShave is the common level at which claims fit a total; +Inf when they fit as they are. weight nil: 1 each.
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
// of host i.
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

// PriorityMean is the paper's priority: the mean of the stack positions of one migration, the bottom being 1.
func PriorityMean(positions []uint32) (float64, error) {
	var mean C.double
	rc := C.migbuf_priority_mean((*C.uint32_t)(at(positions)), C.size_t(len(positions)), &mean)
	return float64(mean), failed("priority_mean", rc)
}

// PlacementShares cuts a capacity into n bins by weight, to the byte. weight nil: equal bins.
func PlacementShares(capacityBytes uint64, weight []uint32, n int) ([]uint64, error) {
	if n < 0 || (weight != nil && len(weight) != n) {
		return nil, &Error{Op: "placement_shares", Code: ErrInvalid, Text: "slices of different lengths"}
	}
	share := make([]uint64, n)
	rc := C.migbuf_placement_shares(C.uint64_t(capacityBytes), (*C.uint32_t)(at(weight)), C.size_t(n), (*C.uint64_t)(at(share)))
	return share, failed("placement_shares", rc)
}

// PlacementPour pours an amount over bins, the least used first: what each takes, and the rest that found no room.
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

// PlacementLiteralHalving is the paper's own rule, for comparison: the number of halvings after which the amount fits.
func PlacementLiteralHalving(roomBytes []float64, amountBytes float64, maxHalvings uint32) (int, error) {
	rc := C.migbuf_placement_literal_halving(doubles(roomBytes), C.size_t(len(roomBytes)), C.double(amountBytes), C.uint32_t(maxHalvings))
	return int(rc), failed("placement_literal_halving", rc)
}

// PlacementLiteralReclaim is the paper's own rule at a completion: how many shards, smallest first, go home whole.
func PlacementLiteralReclaim(shardBytes []float64, homeRoomBytes float64) (int, error) {
	rc := C.migbuf_placement_literal_reclaim(doubles(shardBytes), C.size_t(len(shardBytes)), C.double(homeRoomBytes))
	return int(rc), failed("placement_literal_reclaim", rc)
}

// Growth is how much a file really grows per unit the throttle lets through: growth.h. Start from [NewGrowth].
type Growth struct {
	Ratio                           float64
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
// limit in force since then (+Inf: none), requestUnits the largest request.
func (g *Growth) Sample(unitBytes uint64, since time.Duration, fileBytes, writes, writtenBytes uint64, unitsPerS, requestUnits float64) error {
	return failed("growth_sample", C.migbuf_growth_sample((*C.struct_migbuf_growth)(unsafe.Pointer(g)), C.uint64_t(unitBytes), C.double(since.Seconds()),
		C.uint64_t(fileBytes), C.uint64_t(writes), C.uint64_t(writtenBytes), C.double(unitsPerS), C.double(requestUnits)))
}

// How the forecast remembers.
const (
	ForecastMemoryS    float64 = C.MIGBUF_FORECAST_MEMORY_S    // time constant of everything that is smoothed, s
	ForecastPriorBytes float64 = C.MIGBUF_FORECAST_PRIOR_BYTES // what a new forecast pretends to have seen
)

// Forecast is what a guest will still add to its file: forecast.h. Start from [NewForecast].
type Forecast struct {
	Rate         float64 // unit bytes/s over the last minute
	Peak         float64
	GrownBytes   float64
	RecentBytes  float64
	GrowthRatio  float64 // bytes of file per unit byte
	WrittenBytes float64 // since the overlay exists
}

// NewForecast of a guest whose overlay is empty and that wrote so much before, 0 when not known.
func NewForecast(rate float64) (Forecast, error) {
	var f Forecast
	rc := C.migbuf_forecast_init(f.c(), C.double(rate))
	return f, failed("forecast_init", rc)
}

func (f *Forecast) c() *C.struct_migbuf_forecast {
	return (*C.struct_migbuf_forecast)(unsafe.Pointer(f))
}

// Update takes what was measured over the last interval; limit +Inf: no throttle, 0: paused.
func (f *Forecast) Update(intervalS, written, grown, limit float64) error {
	return failed("forecast_update", C.migbuf_forecast_update(f.c(), C.double(intervalS), C.double(written), C.double(grown), C.double(limit)))
}

// Remaining is how much the file would still grow if the guest went on for ever.
func (f *Forecast) Remaining(fileBytes, most float64) (float64, error) {
	var bytes C.double
	rc := C.migbuf_forecast_remaining(f.c(), C.double(fileBytes), C.double(most), &bytes)
	return float64(bytes), failed("forecast_remaining", rc)
}

// ForecastBend is the z of z / (e^z - 1) = y.
func ForecastBend(y float64) (float64, error) {
	var z C.double
	rc := C.migbuf_forecast_bend(C.double(y), &z)
	return float64(z), failed("forecast_bend", rc)
}

// ForecastGrowth is the growth in t seconds of a guest that writes so many unit bytes/s.
func ForecastGrowth(remaining, growthRatio, rate, tS float64) (float64, error) {
	var bytes C.double
	rc := C.migbuf_forecast_growth(C.double(remaining), C.double(growthRatio), C.double(rate), C.double(tS), &bytes)
	return float64(bytes), failed("forecast_growth", rc)
}

// ForecastRateFor is the rate whose growth in t seconds is the budget.
func ForecastRateFor(remaining, growthRatio, budgetBytes, tS float64) (float64, error) {
	var rate C.double
	rc := C.migbuf_forecast_rate_for(C.double(remaining), C.double(growthRatio), C.double(budgetBytes), C.double(tS), &rate)
	return float64(rate), failed("forecast_rate_for", rc)
}
