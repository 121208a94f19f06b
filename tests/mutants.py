#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Takes one mechanism after the other out of the library, and sees whether a test notices.

usage: tests/mutants.py [--list] [NAME…]

Each mutant is one change of one place. A test that passes all the same proves nothing of that mechanism: that is a failure
here. A place that is no longer there is one as well: the table is to be mended with the code (--list says which). Works on a
copy; takes a few seconds for each mutant."""
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DISK, LIMITS, BUFFER, LAWS = "test_disk_model", "test_limits", "test_buffer_model", "test_laws"
CASES = "test_buffer"
PAGES = "examples/simulate/pages.c"
MIRROR = "test_mirror"
RAM, RAM_MODEL, CONVERGENCE, HISTORY = "test_ram", "test_ram_model", "test_convergence_laws", "test_history"

# name, file, what stands there, what stands there instead, the tests of which one has to notice
MUTANTS = [
    # The throttle of a VM's disks
    ("what was sent is not remembered", "disk_found.c",
     "        if (migbuf__config_same(&d->sent[k], config))\n            return 1;", "        if (!config)\n            return 1;",
     [DISK]),
    ("nothing is asked after an unknown outcome", "disk_answer.c",
     "d->unknown_limits = d->query = 1;", "d->unknown_limits = 1;", [DISK]),
    ("a disk that is gone is still served", "disk_answer.c",
     "            n->gone = 1;\n            n->joined", "            n->joined", [DISK]),
    ("a disk that is refused stops the others", "disk_answer.c",
     "    n->refused = 1;\n    d->under_way = migbuf__disk_choose(d);\n    if (!d->under_way)\n        return halt",
     "    n->refused = 1;\n    if (n)\n        return halt", [DISK, "test_disk"]),
    ("a refused disk is not looked for", "disk_answer.c", "        n->suspect = d->query = 1;\n        return 0;",
     "        n->suspect = 1;", [DISK, "test_disk"]),
    ("nobody looks at the host's shared group", "disk_found.c", "        take_for_hosts(d, n, config);\n    }\n}\n\n/* Whoever",
     "    }\n}\n\n/* Whoever", [DISK]),
    ("a group without limits gets what it was sent", "disk_next.c",
     "        d->sending = in_open_group ? migbuf__disk_open_group() : n->host;", "        d->sending = n->host;", [DISK]),
    ("a group that was opened is not emptied", "disk_next.c", "        if (n->held_open) {", "        if (0) {", [DISK]),
    ("limits of several disks are taken for one's", "disk_found.c",
     "    if (migbuf__disk_there(d) > 1) {", "    if (migbuf__disk_there(d) > 9) {", [DISK, "test_disk"]),
    ("a typed limit of unknown outcome is believed", "disk_answer.c", "            d->node[d->at].unsure = 1;", "            ;",
     ["test_disk"]),
    ("a typed limit of unknown outcome is the host's", "disk_found.c", "was_sent(d, config) || (n->unsure && !d->learnt)",
     "(n->unsure && !d->learnt)", [DISK]),
    ("a guest is let run without a look", "disk_next.c", "    if (!d->looked)\n        return MIGBUF_DISK_STATUS;\n", "", [DISK]),
    ("a stop is not written down beforehand", "disk_answer.c", "d->running ? d->now.guest == MIGBUF__GUEST_STANDS : d->stopped && d->paused",
     "d->stopped && d->paused", [DISK]),
    ("a refused wish stays wanted", "disk_answer.c", "        d->now = d->before;\n", "", [DISK, "test_disk"]),
    ("a restore does not look first", "disk_ask.c", "    if (migbuf__disk_has_anything(d))\n        d->query = 1;", "    if (0)\n        d->query = 1;",
     [DISK]),
    ("a text does not say that the guest stands", "disk_text.c", 'd->stopped ? "stands" : "runs"', '"runs"', [DISK]),
    ("a raise tells one disk", "disk_answer.c", "k < d->nodes && raised; k++", "k < d->nodes && raised && 0; k++", ["test_disk"]),
    # What QEMU is told
    ("a total stays beside a write limit", "throttle_config.c", "    split_total(k, ours);\n", "", [DISK, LIMITS]),
    ("a host's burst goes around the budget", "throttle_config.c", "    drop_burst(k.write); /* it would", "    /* it would", [LIMITS]),
    ("a coarser unit keeps the host's rate", "throttle_config.c", "m->iops_wr = less_often(m->iops_wr, coarser);", "", [LIMITS]),
    ("one host's limit is enough", "throttle_config.c", "    *to.rate = lower_limit(*to.rate, *other.rate);\n", "", [LIMITS]),
    # The buffer
    ("older limits are forgotten", "in_force.c", "    keep_older(e, old, until_ms);\n", "", [BUFFER]),
    ("an unknown outcome is one that was carried out", "in_force.c", "        migbuf__in_force_doubt(e);\n        break;",
     "        break;", [BUFFER]),
    ("a refused decision is in force", "in_force.c", "        e->now = e->before;\n        break;", "        break;", [BUFFER]),
    ("files are as they were measured", "claims.c", "    return migbuf__least(growth_of(e, rate, (double)(now_ms - since_ms) / 1000, sets, 0), missing_bytes);",
     "    return 0;", [BUFFER]),
    ("a set passes no request", "buffer_add.c", "    e->set_request *= (double)disk_count;\n", "    e->set_request = 0;\n", [BUFFER]),
    ("one set, however many disks", "buffer_add.c", "    e->set_request *= (double)disk_count;\n", "", [BUFFER, LAWS]),
    ("a set empties no bucket", "buffer_add.c", "    e->set_s = MIGBUF__THROTTLE_BURST_S * (double)disk_count;\n", "", [BUFFER]),
    ("who joins waits for nobody", "buffer_add.c", ".joining = !m->file_bytes,", ".joining = 0,", [CASES]),
    ("a drain needs no room", "buffer.c", "    if (drains_ahead > e->drains_fit && b->options.policy", "    if (0 && b->options.policy", [BUFFER]),
    ("Omega shrinks at once", "buffer.c", "    return smaller && b->options.policy != MIGBUF_POLICY_LITERAL && !migbuf__space_fits(b, (double)capacity_bytes);",
     "    return 0;", [BUFFER]),
    ("a stop pours nothing", "claims.h", " + e->pours + e->drained + e->poured;", " + e->drained + e->poured;", [BUFFER, LAWS]),
    ("a drain that is over has poured nothing", "claims.h", " + e->pours + e->drained + e->poured;", " + e->pours;", [BUFFER]),
    ("no reserve for drains", "claims.h", "    return migbuf__least(e->queue * (double)drains, ", "    return migbuf__least(0 * (double)drains, ", [BUFFER]),
    ("tables are refcounted by nobody", "limits.c", "    *bytes = units * (tables + (clusters + tables) / (c / 2 - 1)) * c;",
     "    *bytes = units * tables * c;", [LIMITS]),
    ("a refcount table never moves", "limits.c", "        table = table > 1 ? divide_up(table * 9, 2) + 1 : 1;\n", "", [BUFFER, LIMITS]),
    ("a drain needs no tables", "limits.c", "    return in_flight ? all + (divide_up(all, c * c / 2) + 1 + tables_of(g).refcount_table) * c + last_block(g) : 0;",
     "    return in_flight * growth + last_block(g);", [BUFFER, LIMITS]),
    ("a block that is not known is a byte", "limits.c", "g->block_bytes ? g->block_bytes : g->cluster_bytes;\n\n    return block",
     "g->block_bytes;\n\n    return block", [LIMITS]),
    ("a text that was not carried out was", "buffer_text.c", "    if (e.open) /* saved", "    if (0) /* saved", [BUFFER]),
    ("a clock that began anew goes on", "buffer_text.c", "    if (now_ms < b->now_ms)\n        begin_anew", "    if (0)\n        begin_anew", [BUFFER]),
    ("an outcome that is told has landed before", "in_force.c", "            e->older[k].until_ms = MIGBUF__LANDED;", "            e->older[k].until_ms = 0;", [BUFFER]),
    ("what is found may not be set again", "in_force.c", "    e->found_sets = found.units != e->now.units ||", "    e->found_sets = 0 && found.units != e->now.units &&", [BUFFER, LAWS]),
    ("a claimed Omega gives more away", "space.c", "        return total < -1 ? 0 : migbuf__shave", "        return migbuf__shave", [BUFFER]),
    ("nothing is pending", "claims.c", "    return migbuf__least(growth_of(e, rate, b->options.lag_ms / 1000.0, sets, 1), missing_bytes);", "    return 0;", [BUFFER]),
    ("everybody may write what is left", "space.c", "        e->budget = level;\n", "", [BUFFER]),
    ("an unknown guest is not floored", "claims.h", "    return e->least_units > 2 ? e->least_units : 2;", "    return 1;", [BUFFER]),
    ("what is free for the next is what was free", "tick.c", "    b->counted = 0;\n", "", [CASES]),
    ("a ledger that was looked at has the same numbers", "buffer_add.c", "    if (migbuf__bins_gone(b->bins) != b->gone) /* somebody", "    if (0) /* somebody",
     [CASES]),
    ("nothing moves when one more comes", "bins.c", "b->calm && b->fullest <= level && for_each_weight(bytes, weight) <= level", "1 || level", [LAWS]),
    ("who leaves takes sizes along that were told", "bins.c", "    if (b->sizes_due) {\n        settle(b);", "    if (0) {\n        settle(b);", [CASES]),
    ("who is satisfied leaves nothing", "throttle.c", "        left = migbuf__most(left - taken, 0);\n", "", ["test_throttle"]),
    ("a digit of a key is not sorted", "slots.c", "    for (int d = 0; d < DIGITS; d++) {\n        uint32_t", "    for (int d = 1; d < DIGITS; d++) {\n        uint32_t", ["test_throttle"]),
    # Each of these has a case of its own
    ("who was told to stop is not let run", "decide.c", " && (e->before.paused || e->pours));", " && e->before.paused);", [CASES]),
    ("what a file holds was not written", "learn.c", "migbuf__most(d->units_bytes - had_units, grown) : grown;",
     "migbuf__most(d->units_bytes - had_units, grown) : 0;", [CASES]),
    ("a first interval is a sixtieth of a mean", "learn.c", "        d->forecast.rate = d->forecast.peak;\n", "        ;\n", [CASES]),
    ("nobody begins with a part", "policy_planner.c", " && e->budget > first) {", " && e->budget > first && 0) {", [CASES]),
    ("counters that are missing are 0", "buffer.c", "    if ((m->writes && !s->writes) ||", "    if (0 && (m->writes && !s->writes) ||", [CASES, LAWS]),
    ("one missing counter is none", "buffer.c", "!s->writes) || (m->written_bytes && !s->written_bytes)", "!s->writes) && (m->written_bytes && !s->written_bytes)", [CASES, LAWS]),
    ("missing counters teach the ratio", "learn.c", "    if (!is_told(e) || e->step", "    if (e->step", [CASES]),
    ("missing counters teach the forecast", "learn.c", "    if (!is_told(e) || interval_s", "    if (interval_s", [CASES]),
    ("who explores takes all", "policy_planner.c", "(!e->observed.known || (e->plan.cut && isinf(e->plan.rate)))", "!e->observed.known", [CASES]),
    ("a queue that is not known is none", "limits.c",
     "        k.queue_bytes = drain_of(g, DEEPEST_QUEUE, LARGEST_REQUEST);", "        k.queue_bytes = 0;", [CASES]),
    ("a refusal does not say what is not known", "buffer_add.c", "    if (2 * caution > need)", "    if (0)", [CASES]),
    ("the ratio's clock is lost", "buffer_text.c", "    e->learnt_at_ms = migbuf__read_number(r, 0, UINT64_MAX);",
     "    e->learnt_at_ms = migbuf__read_number(r, 0, UINT64_MAX) * 0 + 80000;", [CASES]),
    ("the forecast's clock is lost", "buffer_text.c", "    d->at_ms = migbuf__read_number(r, 0, UINT64_MAX);",
     "    d->at_ms = migbuf__read_number(r, 0, UINT64_MAX) * 0 + 80000;", [CASES]),
    ("no limit is no growth", "in_force.c", "MIGBUF__UNLIMITED_UNITS ? device :", "MIGBUF__UNLIMITED_UNITS ? 0 * device :", [CASES]),
    ("a lower limit may be too low", "decide.c", "        e->now.units = further > least ? further : least;",
     "        e->now.units = further > 1 || !least ? further : 1;", [CASES]),
    ("policy literal knows of stalls", "decide.c", "least = b->options.policy == MIGBUF_POLICY_LITERAL ? 1 : e->least_units,",
     "least = e->least_units,", [CASES]),
    ("policy literal forgets nothing", "tick.c", "            b->entries[i].olders = b->entries[i].drained = 0;\n", "            ;\n", [CASES]),
    ("more than QEMU takes is found", "in_force.c", "    if (units > MIGBUF__THROTTLE_VALUE_MAX)\n        return MIGBUF_E_RANGE;\n", "", [CASES]),
    ("files of any size come in", "buffer_add.c", " ||\n        given->file_bytes > MIGBUF_BYTES_MAX / MIGBUF__MAX_DISKS)", ")", [CASES]),
    ("a file holds data only", "limits.c", "        k.extra_bytes = UNKNOWN_EXTRA;", "        k.extra_bytes = 0;", [CASES, LIMITS]),
    ("every file has an end", "limits.c", "    if (g->flags & MIGBUF_GEOMETRY_NO_WHOLE || *bytes", "    if (*bytes", [CASES, LIMITS]),
    ("a unit may be half a block", "limits.c", "    return block > g->subcluster_bytes ? block : g->subcluster_bytes;",
     "    return block ? g->subcluster_bytes : block;", [LIMITS]),
    ("a large unit has one table", "limits.c", "    tables = (double)divide_up(unit_of(g), reach_of(g));", "    tables = 1;", [LIMITS]),
    ("66048 bytes are aligned", "limits.c", "        g->request_bytes % unit_of(g))", "        g->request_bytes % 512)", [LIMITS]),
    ("who comes does not see what is on its way", "space.c", "files + migbuf__pending_of(b, e, migbuf__missing(e) - migbuf__reserve_of(e, files)));",
     "files);", [CASES]),
    ("what nobody answered waits for ever", "in_force.c", "    e->open &= kept > 0;", "    e->open &= 1;", [CASES]),
    ("a guest is paused with a limit", "decide.c", "        stand(b, e);\n        return MIGBUF_ACTION_PAUSE;", "        return MIGBUF_ACTION_PAUSE;", [CASES]),
    ("what nobody has seen is not saved", "buffer_text.c", "bits(e->unseen), bits(e->reserve)", "bits(0.0), bits(e->reserve)", [CASES]),
    ("what is claimed is not saved", "buffer_text.c", "bits(e->pending), bits(e->claim)", "bits(0.0), bits(0.0)", [CASES]),
    ("who is to stand wrote nothing in a lost time", "buffer_text.c", "        writes |= e->older[k].units > 0;\n", "", [CASES, LAWS]),
    ("a sample may be from the future", "tick.c", "        if (*at != MIGBUF__NEVER && (*at > now_ms ||", "        if (*at != MIGBUF__NEVER && known && (*at > now_ms ||", [CASES]),
    ("no limit is the highest", "in_force.c", "    return rate_of(e, a) > rate_of(e, b) ? a : b;", "    return a > b ? a : b;", [CASES]),
    ("without a lag all lands at once", "in_force.c", " || (e->unknown && !b->options.lag_ms);", ";", [CASES]),
    ("without a lag no bucket is found empty", "claims.c", "e->now.limited && e->unseen <= 0)", "e->now.limited)", [CASES]),
    ("rounding pauses somebody", "decide.c", "    if (!literal && units < migbuf__lowest_units(e) &&", "    if (0 && units < migbuf__lowest_units(e) &&", [CASES]),
    ("what nobody has seen was no rewrite", "policy_planner.c", "migbuf__remaining(f, (double)e->file_bytes,", "migbuf__remaining(f, g->file_bytes,", [CASES]),
    ("a drain without room has poured", "buffer.c", "    had = e->drains_ahead < e->drains_fit ? e->drains_ahead : e->drains_fit;", "    had = e->drains_ahead;", [CASES]),
    ("what has no room is given away", "space.c", "migbuf__least(total, migbuf__most(total - waits, b->least));", "migbuf__most(0, total - waits);", [CASES]),
    ("nobody gets a turn", "turns.c", "        b->entries[i].turn = TURN_WRITES;\n", "", [CASES]),
    ("a turn does not ask for its claim", "turns.c", "        if (need + (s->slot[k].number[SLOT_KEY] >= NOW ? kept_bytes - 1 : 0) > left) /* less one: sums of fractions of bytes */\n            continue;\n", "", [LAWS]),
    ("who runs takes what is kept for turns", "turns.c", "(s->slot[k].number[SLOT_KEY] >= NOW ? kept_bytes - 1 : 0)", "0", [LAWS]),
    ("who stands has room for its drains", "claims.h", "migbuf__stands(e) ? migbuf__drains_of(e) : e->now.paused ? e->queue : 0;",
     "e->now.paused ? e->queue : 0;", [BUFFER, LAWS]),
    ("who is let in needs nothing for its turn", "space.c", "        s->growing[i].least_bytes = need - e->reserve;\n", "", [LAWS]),
    ("who would make others stand is let in", "space.c", "if (least > 0 && need + migbuf__most(grows + kept - least, 0) > total - least - waits)\n            continue;", "", [CASES]),
    ("room is kept for who waits for turns", "space.c", "            continue; /* it may wait for long", "            { waits += need; continue; } /* it may wait for long", [CASES]),
    ("nobody has to say that a guest stands", "in_force.c", "    e->pours &= kept > 0 || e->unknown;\n    if (e->now.still == STILL_TOLD) {",
     "    e->pours &= kept > 0 || e->unknown;\n    if (e->now.paused) e->now.still = STILL_MEASURED;\n    if (e->now.still == STILL_TOLD) {", [CASES]),
    ("what it poured before need not be measured", "in_force.c", "since_ms > e->now.still_ms", "1", [CASES]),
    ("drains of who runs are not counted", "buffer.c", " && !migbuf__stands(e))", " && !e->now.paused)", [CASES]),
    ("nothing is kept for turns", "tick.c", "        migbuf__space_level(b, s, left_bytes, kept_bytes);\n    }\n",
     "        migbuf__space_level(b, s, left_bytes, 0);\n    }\n", [CASES, LAWS]),
    ("what another hand ended is forgotten", "in_force.c", "    if (e->found_sets && e->said) {", "    if (0) {", [CASES]),
    ("what nobody has said was in force", "in_force.c", "    if (e->found_sets && e->said) {", "    if (e->found_sets) {", [CASES]),
    ("a stop that was another's poured nothing", "in_force.c", "    e->pours |= found.paused && !e->now.paused;\n", "", [CASES]),
    ("a level is below a smallest limit that fits", "space.c", "    return b->least <= b->grantable;", "    return 0;", [CASES]),
    ("a refill takes as long as it likes", "decide.c", "fmin(e->queue / ((double)units * (double)e->unit), migbuf__turns_between_s(b)) * 1000",
     "e->queue / ((double)units * (double)e->unit) * 1000", [CASES]),
    ("who joins grows beyond its disks", "turns.c", "migbuf__least(migbuf__least_growth(&s->growing[i]) * migbuf__least(away, ahead_s(b)), migbuf__missing(e))",
     "migbuf__least_growth(&s->growing[i]) * migbuf__least(away, ahead_s(b))", [CASES]),
    ("who stood longest is not the first", "turns.c", "               ? (double)e->now.paused_at_ms", "               ? 1", [LAWS]),
    ("turns come as if all had room", "turns.c", "            b->period_s *= SLOWER;", "            b->period_s = AHEAD * every_s;", [LAWS]),
    ("a file ends in half a block", "limits.c", "    *bytes = divide_up(*bytes, block) * block;\n", "    (void)block;\n", [LIMITS, BUFFER]),
    ("tables begin no block", "limits.c", "    return g->block_bytes > g->cluster_bytes ? g->block_bytes : 0;", "    return g->block_bytes * 0;", [LIMITS]),
    # Memory
    ("a status nobody knows is none", "ram_answer.c", " ||\n           phase == MIGBUF_RAM_PHASE_OTHER;", ";", [RAM]),
    ("a target that may run the guest too is not ended", "ram_answer.c", "    return migbuf__ram_there(s) && is_over(s->phase)",
     "    return 0 && is_over(s->phase)", [RAM_MODEL]),
    ("who loads device state has begun nothing", "ram_answer.c", '        return MIGBUF_RAM_PHASE_DEVICE;\n', '        return MIGBUF_RAM_PHASE_OTHER;\n', [RAM]),
    ("a cancel goes into post-copy", "ram.c", "    if (r->post_seen || r->continued ||", "    if (r->continued ||", [RAM, RAM_MODEL]),
    ("a cancel goes after post-copy was asked for", "ram.c", "phase == MIGBUF_RAM_PHASE_ACTIVE) && !r->post_sent;",
     "phase == MIGBUF_RAM_PHASE_ACTIVE);", [RAM_MODEL, RAM]),
    ("a cancel goes after the last step", "ram.c", "    if (r->post_seen || r->continued ||", "    if (r->post_seen ||", [RAM_MODEL, RAM]),
    ("a guest is let run here while it may run there", "ram_answer.c", "|| !r->was_running || !r->continued || target_dead))", "|| 1))",
     [RAM, RAM_MODEL]),
    ("a guest that QEMU left standing stands", "ram_answer.c", "!r->post_seen && s->left &&\n           r->was_running && !r->stands;",
     "0;", [RAM, RAM_MODEL]),
    ("a migrate of unknown outcome is sent again", "ram_next.c", "r->migrate_sent = r->migrate_unsure = 1;", "r->migrate_unsure = 1;",
     [RAM, RAM_MODEL]),
    ("what was not agreed is armed", "ram.c", "(r->agreement.throttle_most_percent ? CAP(CONVERGE) : 0)", "CAP(CONVERGE)", [RAM]),
    ("post-copy is armed unasked", "ram.c", "int postcopy = r->agreement.postcopy && !o->one_way", "int postcopy = !o->one_way", [RAM, RAM_MODEL]),
    ("capabilities are not given back", "ram_next.c", "        if (s->touched_caps)\n            kind = set_caps", "        if (0)\n            kind = set_caps", [RAM, RAM_MODEL]),
    ("parameters are not given back", "ram_next.c", "        if (!kind && s->touched_pars)", "        if (0)", [RAM, RAM_MODEL]),
    ("what we set is taken for the host's", "ram_answer.c", "        if (!(s->touched_pars >> k & 1)) {", "        {", [RAM, RAM_MODEL]),
    ("another hand's value is set over while it runs", "ram_answer.c", "            s->want_par.x[k] = x;\n        if", "            ;\n        if", [RAM]),
    ("another hand's value is set over at the end", "ram_next.c", "    return ours & s->touched_pars;", "    return s->touched_pars;", [RAM, RAM_MODEL]),
    ("one value of ours is remembered", "ram_answer.c", "    while (k < SENT - 1 && s->ours", "    while (k < 0 && s->ours", [RAM, RAM_MODEL]),
    ("a broken post-copy waits", "ram_next.c", "        return mend(r);\n    if (!migbuf__ram_there(s))", "        return 0;\n    if (!migbuf__ram_there(s))", [RAM, RAM_MODEL]),
    ("a text does not say that post-copy has begun", "ram_text.c", "&r->post_sent, &r->post_seen, &r->switched,", "&r->post_sent, &r->recover, &r->switched,",
     [RAM, RAM_MODEL]),
    ("a text does not say what was touched", "ram_text.c", "&s->touched_caps, &s->touched_pars, &s->want_pars,", "&s->want_pars, &s->want_pars, &s->want_pars,",
     [RAM, RAM_MODEL]),
    ("a cancel that hangs is not helped", "ram_next.c", 'return r->cancelling > 1 ? tell_to_go_on(r, "cancelling") : 0;', "return 0;", [RAM, RAM_MODEL]),
    ("a target's end after a cancel is its reason", "ram_answer.c", "        r->died |= !r->cancel;", "        r->died = 1;", [RAM]),
    ("decisions ignore the most that was agreed", "convergence.c", "try_ms[k] <= a->most_ms && in_time", "in_time", [CONVERGENCE]),
    ("post-copy needs no agreement", "convergence.c", "    if (a->postcopy && (bad", "    if ((bad", [CONVERGENCE]),
    ("it is given up in the first round", "convergence.c", " && c->rounds >= 2)", ")", [CONVERGENCE]),
    ("a throttle is not asked for before all that is left", "convergence.c", "    if (!late && a->throttle_most_percent && c->asked_percent <= 0", "    if (0", [CONVERGENCE]),
    # What fuzzers' corpora hold: each input is one that reached something
    ("half of a string is forgotten with its portion", "qmp.c", "    q->frame = in->frame;\n", "    q->frame = in->frame;\n    q->frame.in_string = 0;\n",
     ["fuzz/qmp"]),
    ("a record is given out half read", "report.c", "    if (rc == 0)\n        memcpy(out, record, record_bytes);", "    memcpy(out, record, record_bytes);",
     ["fuzz/report"]),
    ("a name that is no JSON comes in by a text", "ram_text.c", "    if (r->bad || !migbuf__is_utf8(ram->side[side].uri))\n        r->bad = 1;\n", "",
     ["fuzz/texts"]),
    ("two saved figures change places", "buffer_text.c", "keyword, NUMBER(s->units), NUMBER(s->paused_at_ms),", "keyword, NUMBER(s->paused_at_ms), NUMBER(s->units),",
     ["fuzz/texts"]),
    ("the order of a merge is that of its texts", "history.c", "x->length > y->length : memcmp(x->text, y->text, x->length) > 0;", "0 : 0;",
     ["fuzz/history"]),
    ("an attempt is the 0th", "history.c", " || a->number == 0 || ", " || ", [HISTORY, "fuzz/history"]),
    ("a refused sample is half taken", "buffer.c", "        if (samples[k].reserved)\n            return MIGBUF_E_INVALID;\n        if (samples[k].file_bytes >",
     "        b->entries[i].joining = 0;\n        if (samples[k].file_bytes >", ["fuzz/buffer_calls"]),
    ("a name of a server's is not escaped", "lxd.c", '        migbuf__write(w, plain ? "%c"', '        plain = 1;\n        migbuf__write(w, plain ? "%c"',
     ["fuzz/lxd"]),
    ("requests of no length divide by nothing", "limits.c", "    if (!growth) {", "    if (0) {", [LIMITS, "fuzz/formulas"]),
    ("no time without end is lost", "convergence.c", "x.throttle_percent * to_go / 100", "x.throttle_percent / 100 * to_go",
     ["test_convergence", "fuzz/formulas"]),
    ("other hands' limits are ours", "disk_found.c", "was_sent(d, config) || (n->unsure && !d->learnt)", "1", ["fuzz/disk_model"]),
    ("older limits are forgotten by an input", "in_force.c", "    keep_older(e, old, until_ms);\n", "", ["fuzz/buffer_model"]),
    ("what was touched is not given back", "ram_next.c", "        s->touched_pars |= r->sending;\n", "", ["fuzz/ram_model"]),
    # A mirrored disk
    ("a mirror that may run is not ended", "mirror.c", "m->sent = m->sent || kind == MIGBUF_MIRROR_START;", "", [MIRROR]),
    ("a cancel is lost behind another answer", "mirror.c", "m->end = m->end == kind ? 0 : m->end;", "m->end = 0;", [MIRROR]),
    ("a job that is gone is complete", "mirror.c", "end_as(m, MIGBUF_MIRROR_STATE_LOST);", "end_as(m, MIGBUF_MIRROR_STATE_COMPLETED);", [MIRROR]),
    ("after unknown it is sent again unasked", "mirror.c", "is_over(m) || m->unknown || m->refused", "is_over(m) || m->refused", [MIRROR]),
    ("a guest that was held is let go too soon", "mirror.c", "m->held = m->held || m->progress.stuck || !is_short(m);",
     "m->held = !is_short(m);", [MIRROR]),
    ("a copy in the way of its guest is not paced", "mirror.c", "m->paced = u > 0 && (double)remaining(m) > SHORT_S * u;",
     "m->paced = false;", [MIRROR]),
]


def compile_all(work, flags):
    """Objects of the library and of the tests, once."""
    os.makedirs(work + "/o")
    units = [("lib/" + f) for f in sorted(os.listdir(work + "/lib")) if f.endswith(".c")]
    tests = sorted({t for m in MUTANTS for t in m[4]})
    units += ["tests/%s.c" % t for t in tests] + ["tests/fuzz/corpus.c", "tests/reference.c", "tests/qemu_model.c", "tests/ram_model.c",
                                                          PAGES]
    for unit in units:
        subprocess.run(["cc", *flags, "-c", unit, "-o", object_of(unit)], cwd=work, check=True)
    return [object_of(u) for u in units if u.startswith("lib/")]


def object_of(unit):
    return "o/" + unit.replace("/", "_")[:-2] + ".o"


def users_of(work, header):
    """The library's files that read a header, also by way of another."""
    readers, found = {header}, set()
    texts = {f: open("%s/lib/%s" % (work, f)).read() for f in os.listdir(work + "/lib") if f.endswith((".c", ".h"))}
    while readers - found:
        found |= readers
        readers |= {f for f, text in texts.items() if any('#include "%s"' % r in text for r in found)}
    return sorted(f for f in found if f.endswith(".c"))


def passes(work, test, objects):
    """Does the test pass with these objects of the library?"""
    own = [object_of("tests/%s.c" % test)]
    own += [object_of("tests/qemu_model.c")] if test == DISK else []
    own += [object_of("tests/ram_model.c"), object_of(PAGES)] if test == RAM_MODEL else []
    own += [object_of("tests/reference.c")] if test == LAWS else []
    command = ["./o/" + test.replace("/", "_")]
    if test.startswith("fuzz/"):
        own += [object_of("tests/fuzz/corpus.c")]
        own += [object_of("tests/qemu_model.c")] if "disk_model" in test else []
        own += [object_of("tests/ram_model.c"), object_of(PAGES)] if "ram_model" in test else []
        objects = [o for o in objects if test != "fuzz/lxd" or "lxd_http" not in o] # it stands in for that file
        command += ["tests/fuzz/corpus/" + test[5:]]
    subprocess.run(["cc", "-o", command[0], *own, *objects, *LIBRARIES], cwd=work, check=True)
    try:
        run = subprocess.run(command, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300,
                             env={**os.environ, "CK_FORK": "no", "MIGBUF_TEST_LIVES": "40000"})
    except subprocess.TimeoutExpired: # it never ends: that is noticed, too
        return False
    return run.returncode == 0


def words_of(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


LIBRARIES = []


def main(arguments):
    if "-h" in arguments or "--help" in arguments:
        print(__doc__)
        return 0
    if "--list" in arguments:
        lost = 0
        for name, unit, old, _, tests in MUTANTS:
            with open("%s/lib/%s" % (ROOT, unit)) as f:
                places = f.read().count(old)
            lost += places != 1
            print("%-50s %s: %s%s" % (name, unit, " or ".join(tests), "" if places == 1 else " - its place is %d times there" % places))
        return lost > 0
    chosen = [m for m in MUTANTS if not arguments or m[0] in arguments]
    unknown = set(arguments) - {m[0] for m in MUTANTS}
    if unknown:
        print("mutants: there is no '%s'; see --list" % unknown.pop(), file=sys.stderr)
        return 2
    LIBRARIES.extend(words_of(["pkg-config", "--libs", "check", "jansson", "libcurl"]) + ["-lm", "-pthread"])
    flags = ["-std=c11", "-O2", "-w", "-D_GNU_SOURCE", "-pthread", "-Iinclude", "-Ilib", "-Itests", "-DWITH_JSON", '-DMESON_VERSION="0"']
    flags += words_of(["pkg-config", "--cflags", "check", "jansson", "libcurl"])
    survived = 0
    with tempfile.TemporaryDirectory(prefix="migbuf-mutants.") as work:
        for folder in ("lib", "include", "tests", "examples/simulate"):
            shutil.copytree(ROOT + "/" + folder, work + "/" + folder)
        objects = compile_all(work, flags)
        for test in sorted({t for m in chosen for t in m[4]}):
            if not passes(work, test, objects):
                print("not ok - %s fails without any change" % test)
                return 1
        print("1..%d" % len(chosen))
        for number, (name, unit, old, new, tests) in enumerate(chosen, 1):
            path = "%s/lib/%s" % (work, unit)
            with open(path) as f:
                text = f.read()
            if text.count(old) != 1:
                print("not ok %d - %s: the place is %d times in %s" % (number, name, text.count(old), unit), flush=True)
                survived += 1
                continue
            with open(path, "w") as f:
                f.write(text.replace(old, new))
            mutated = list(objects)
            for changed in [unit] if unit.endswith(".c") else users_of(work, unit):
                mutant = object_of("mutant/" + changed)
                subprocess.run(["cc", *flags, "-c", "lib/" + changed, "-o", mutant], cwd=work, check=True)
                mutated[mutated.index(object_of("lib/" + changed))] = mutant
            with open(path, "w") as f:
                f.write(text)
            noticed = next((t for t in tests if not passes(work, t, mutated)), "")
            survived += not noticed
            print("%sok %d - %s%s" % ("" if noticed else "not ", number, name, ": noticed by " + noticed if noticed else ""),
                  flush=True)
    return survived > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
