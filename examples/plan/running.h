/* SPDX-License-Identifier: MIT */
/*
 * The guests of a running LXD or Incus: VMs and their root disks by REST, what they write by the server's metrics, watched for
 * a while. What is not known is never taken for nothing: a running VM of whose writes the server does not tell is an error,
 * unless somebody says what to take for it.
 */
#ifndef PLAN_RUNNING_H
#define PLAN_RUNNING_H
#include "list.h"
#include "server.h"

#define RUNNING_PROJECTS 32

struct running {
    struct server_options server;
    const char *projects[RUNNING_PROJECTS];
    size_t project_count;
    bool all_projects;
    double watch_s, interval_s;
    double assumed_bytes_per_s; /* of VMs of which nothing is known; below 0: that is an error */
    bool quiet;
};

/* Takes one of SERVER_OPTIONS; --project may come several times. */
int running_option(struct running *r, int option, const char *value, char error[FAIL_SIZE]);

/* Takes as long as it watches. */
int running_read(struct list *list, const struct running *r, char error[FAIL_SIZE]);
#endif
