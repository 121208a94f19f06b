// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import "reflect"

// layouts pairs every record that crosses as it is with the library's: a test compares them field by field.
func layouts() [][2]reflect.Type {
	pair := func(ours, theirs any) [2]reflect.Type {
		return [2]reflect.Type{reflect.TypeOf(ours), reflect.TypeOf(theirs)}
	}
	return [][2]reflect.Type{
		pair(BufferOptions{}, C.struct_migbuf_buffer_options{}),
		pair(Migration{}, C.struct_migbuf_migration{}),
		pair(Sample{}, C.struct_migbuf_sample{}),
		pair(Decision{}, C.struct_migbuf_decision{}),
		pair(BufferView{}, C.struct_migbuf_buffer_view{}),
		pair(BufferStats{}, C.struct_migbuf_buffer_stats{}),
		pair(Bin{}, C.struct_migbuf_bin{}),
		pair(Shard{}, C.struct_migbuf_shard{}),
		pair(BinsView{}, C.struct_migbuf_bins_view{}),
		pair(Geometry{}, C.struct_migbuf_geometry{}),
		pair(Limits{}, C.struct_migbuf_limits{}),
		pair(ThrottleConstants{}, C.struct_migbuf_throttle_constants{}),
		pair(Growth{}, C.struct_migbuf_growth{}),
		pair(Forecast{}, C.struct_migbuf_forecast{}),
		pair(PlannerLink{}, C.struct_migbuf_planner_link{}),
		pair(PlannerGuest{}, C.struct_migbuf_planner_guest{}),
		pair(PlannerPlan{}, C.struct_migbuf_planner_plan{}),
		pair(PlannerOptions{}, C.struct_migbuf_planner_options{}),
		pair(AdmissionFlow{}, C.struct_migbuf_admission_flow{}),
		pair(AdmissionTurn{}, C.struct_migbuf_admission_turn{}),
		pair(Waiting{}, C.struct_migbuf_waiting{}),
		pair(Outlook{}, C.struct_migbuf_outlook{}),
		pair(OutlookMirror{}, C.struct_migbuf_outlook_mirror{}),
		pair(Link{}, C.struct_migbuf_link{}),
		pair(LinkFlow{}, C.struct_migbuf_link_flow{}),
		pair(TCP{}, C.struct_migbuf_link_tcp{}),
		pair(TCPFlow{}, C.struct_migbuf_link_tcp_flow{}),
		pair(State{}, C.struct_migbuf_state{}),
		pair(Volume{}, C.struct_migbuf_volume{}),
		pair(RAMRound{}, C.struct_migbuf_round{}),
		pair(RAMRounds{}, C.struct_migbuf_rounds{}),
		pair(Agreement{}, C.struct_migbuf_agreement{}),
		pair(RAMGuest{}, C.struct_migbuf_convergence{}),
		pair(RAMDecision{}, C.struct_migbuf_ram_decision{}),
		pair(RAMForecast{}, C.struct_migbuf_ram_forecast{}),
		pair(RAMTurn{}, C.struct_migbuf_ram_turn{}),
		pair(RAMOptions{}, C.struct_migbuf_ram_options{}),
		pair(RAMInfo{}, C.struct_migbuf_ram_info{}),
		pair(Prior{}, C.struct_migbuf_prior{}),
		pair(ThrottleConfig{}, C.struct_migbuf_throttle_config{}), // numbers; the group is copied
	}
}
