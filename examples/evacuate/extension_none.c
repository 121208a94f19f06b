/* SPDX-License-Identifier: MIT */
/* The extension of `evacuate` itself: nothing is added. */
#include "extension.h"

static const struct option no_options[] = { { NULL, 0, NULL, 0 } };

const struct extension extension = { .options = no_options, .help = "", .policies = "", .guest = "guest.elf" };

int extension_read(struct options *o, int option, const char *value, char error[FAIL_SIZE])
{
    (void)o, (void)value;
    return fail(error, "%d is no option", option);
}

bool extension_read_policy(struct options *o, const char *text)
{
    (void)o, (void)text;
    return false;
}

int extension_options(struct options *o, char error[FAIL_SIZE])
{
    (void)o, (void)error;
    return 0;
}

bool extension_instead(const struct options *o, int *status)
{
    (void)o, (void)status;
    return false;
}

int extension_resume(const struct options *then, const struct options *now, struct options *both,
                     const struct state *state, bool finished, char error[FAIL_SIZE])
{
    (void)then, (void)now, (void)both, (void)state, (void)finished, (void)error;
    return 0;
}

int extension_open(const struct options *o, char error[FAIL_SIZE])
{
    (void)o, (void)error;
    return 0;
}

int extension_close(char error[FAIL_SIZE])
{
    (void)error;
    return 0;
}

void extension_run(struct run *r)
{
    (void)r;
}

void extension_turn(struct run *r, const struct migration *m, uint64_t now)
{
    (void)r, (void)m, (void)now;
}

void extension_run_end(struct run *r)
{
    (void)r;
}

void extension_summary(const struct run *r, const struct migration *m, json_t *o)
{
    (void)r, (void)m, (void)o;
}

void extension_tell(const struct run *r, FILE *out)
{
    (void)r, (void)out;
}

void extension_check(const struct run *r, const struct migration *m, uint32_t disk, const struct writer_params *w, int fd)
{
    (void)r, (void)m, (void)disk, (void)w, (void)fd;
}
