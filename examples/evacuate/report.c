/* SPDX-License-Identifier: MIT */
/* After a run: what is written where, what is said, and the exit status. What came of it, summary.c knows. */
#include "attempts.h"
#include "extension.h"
#include "program.h"
#include "svg.h"
#include <errno.h>
#include <string.h>

static int write_file(struct program *p, const char *path, const char *option, int (*write)(struct program *, FILE *))
{
    FILE *out = path ? fopen(path, "w") : stdout;
    int rc = out ? write(p, out) : -1;

    if (out && path && fclose(out))
        rc = -1;
    if (rc)
        fprintf(stderr, "evacuate: --%s %s: %s\n", option, path ? path : "", strerror(errno));
    return rc;
}

static int write_json(struct program *p, FILE *out)
{
    int rc = p->summary ? json_dumpf(p->summary, out, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) : -1;

    return rc || fputc('\n', out) == EOF || fflush(out) ? -1 : 0;
}

static int write_svg(struct program *p, FILE *out)
{
    return p->contrasted ? svg_contrast(p->run.record, p->contrast.record, out) : svg_timeline(p->run.record, out);
}

/* The directory goes; one that can be come back to says from now on that its run is over. */
static int finish(struct program *p, int status, const char *line)
{
    const char *at = p->options.state ? p->state.directory : p->directory;
    char error[FAIL_SIZE];
    int rc = 0;

    if (p->options.keep)
        fprintf(p->out, "Disks and messages are in %s%s\n", at, p->options.state ? "/run" : "");
    if (!p->options.state)
        remove_directory(p);
    else if (state_finish(&p->state, status, line, json_incref(p->summary), p->options.keep, error))
        rc = fprintf(stderr, "evacuate: --state %s\n", error);
    return rc ? EXIT_FAILED : status;
}

int report(struct program *p)
{
    char error[FAIL_SIZE], line[SUMMARY_LINE_SIZE];
    int rc = 0, status;

    picture_free(p->picture);
    p->picture = NULL;
    p->summary = summary_json(&p->run, p->contrasted ? &p->contrast : NULL);
    if (p->options.svg)
        rc |= write_file(p, p->options.svg, "svg", write_svg);
    if (p->options.json_wanted)
        rc |= write_file(p, p->options.json, "json", write_json);
    if (p->options.history && attempts_append(p->options.history, &p->run, error))
        rc = fprintf(stderr, "evacuate: %s\n", error);
    if (extension_close(error))
        rc = fprintf(stderr, "evacuate: %s\n", error);
    if (p->contrasted)
        summary_contrast(&p->contrast, p->out);
    summary_links(&p->run, p->out);
    summary_failures(&p->run, p->out);
    summary_warnings(&p->run, p->out);
    summary_memory(&p->run, p->out);
    summary_throttle(&p->run, p->out);
    extension_tell(&p->run, p->out);
    summary_line(&p->run, line);
    status = summary_never_began(&p->run) ? EXIT_WRONG : summary_good(&p->run) && !rc ? 0 : EXIT_FAILED;
    status = finish(p, status, line);
    fprintf(p->out, "%s\n", line);
    json_decref(p->summary);
    p->summary = NULL;
    return status;
}

int tell_finished(struct program *p)
{
    const char *line;
    int status;

    if (state_finished(&p->state, &status, &line, &p->summary)) {
        fprintf(stderr, "evacuate: %s/state: not a state of this version\n", p->state.directory);
        status = EXIT_WRONG;
    } else {
        fprintf(p->out, "This run is over; --end %s removes what is left of it.\n%s\n", p->state.directory, line);
        if (p->options.json_wanted && write_file(p, p->options.json, "json", write_json))
            status = EXIT_FAILED;
    }
    p->summary = NULL; /* the state's */
    state_close(&p->state);
    return status;
}
