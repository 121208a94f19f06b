/* SPDX-License-Identifier: MIT */
/* One object with what was asked and an answer per size. Times that never come are null. See data.h. */
#include "data.h"
#include "words.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *spread(const struct spread *s)
{
    return json_pack("{s:o, s:o, s:o}", "least", number(s->least), "middle", number(s->middle), "most", number(s->most));
}

static json_t *guest(const struct prospect *p)
{
    json_t *size_state = p->runs_short || !p->runs_away || p->is_mirrored
                             ? json_null()
                             : json_integer((json_int_t)size_up(p->file_bytes.most));

    return json_pack("{s:s, s:i, s:f, s:f, s:o, s:o, s:o, s:o, s:o, s:i, s:i, s:b, s:b}", "name", p->guest->name, "link",
                     (int)p->guest->link + 1, "copy_bytes", p->guest->used_bytes, "write_bytes_per_s",
                     p->guest->write_bytes_per_s, "start_s", spread(&p->start_s), "away_s", spread(&p->away_s),
                     "delivered", spread(&p->part), "file_bytes", spread(&p->file_bytes), "size_state_bytes", size_state,
                     "runs_away", (int)p->runs_away, "runs_short_of_room", (int)p->runs_short, "mirror_advised",
                     p->is_advised, "mirrored", p->is_mirrored);
}

static json_t *answer(const struct answer *a, double deadline_s)
{
    json_t *vms = json_array(), *object;
    char *text = words_answer(a, deadline_s);

    for (uint32_t k = 0; k < a->count; k++)
        json_array_append_new(vms, guest(&a->guests[k]));
    object = json_pack("{s:I, s:b, s:b, s:o, s:i, s:o, s:s?, s:o}", "buffer_bytes", (json_int_t)a->bytes, "smallest",
                       a->is_smallest, "enough", a->is_enough, "away_s", spread(&a->away_s), "runs_away",
                       (int)a->runs_away, "runs_in_time",
                       isfinite(deadline_s) ? json_integer((json_int_t)a->runs_in_time) : json_null(), "text", text, "vms",
                       vms);
    free(text);
    return object;
}

int data_write(const struct question *q, const struct answer *answers, size_t count, double deadline_s, FILE *out)
{
    json_t *links = json_array(), *list = json_array(), *root;
    char *bars = words_bars(q);
    int rc;

    for (uint32_t k = 0; k < q->guests->link_count; k++)
        json_array_append_new(links, json_real(q->guests->links[k]));
    for (size_t k = 0; k < count; k++)
        json_array_append_new(list, answer(&answers[k], deadline_s));
    root = json_pack("{s:s, s:s, s:i, s:I, s:o, s:o, s:s?, s:o}", "policy", policy_names[q->policy], "admission",
                     admission_names[q->admission], "runs", (int)q->seeds, "seed", (json_int_t)q->seed,
                     "links_bytes_per_s", links, "deadline_s", number(deadline_s), "bars", bars, "buffers", list);
    free(bars);
    rc = root ? json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) : -1;
    json_decref(root);
    return rc || fputc('\n', out) == EOF || fflush(out) ? -1 : 0;
}
