/* SPDX-License-Identifier: MIT */
/* In place of running.c where libmigbuf-lxd was not built. */
#include "running.h"

void server_help(const char *without, const char *project, FILE *out)
{
    (void)without, (void)project, (void)out;
}

void server_options_init(struct server_options *o)
{
    *o = (struct server_options){ .where = NULL };
}

int running_option(struct running *r, int option, const char *value, char error[FAIL_SIZE])
{
    (void)r, (void)option, (void)value;
    return fail(error, "this migbuf-plan was built without LXD and Incus");
}

int running_read(struct list *list, const struct running *r, char error[FAIL_SIZE])
{
    (void)list, (void)r;
    return fail(error, "this migbuf-plan was built without LXD and Incus");
}
