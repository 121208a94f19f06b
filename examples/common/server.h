/* SPDX-License-Identifier: MIT */
/* The LXD or Incus a program talks to: its options, where it is found, what it says. */
#ifndef COMMON_SERVER_H
#define COMMON_SERVER_H
#include "fail.h"
#include "migbuf/lxd.h"
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>

struct server_options {
    const char *where, *project, *target, *certificate, *key, *server_certificate;
    uint32_t timeout_ms;
};

/* For getopt_long: the program's own options begin at SERVER_OPTIONS_END. */
enum {
    OPTION_SERVER = 300,
    OPTION_PROJECT,
    OPTION_TARGET,
    OPTION_CERTIFICATE,
    OPTION_KEY,
    OPTION_SERVER_CERTIFICATE,
    OPTION_TIMEOUT,
    SERVER_OPTIONS_END
};
#define SERVER_OPTIONS                                                                                                 \
    { "server", required_argument, NULL, OPTION_SERVER }, { "project", required_argument, NULL, OPTION_PROJECT },      \
        { "target", required_argument, NULL, OPTION_TARGET },                                                          \
        { "certificate", required_argument, NULL, OPTION_CERTIFICATE }, { "key", required_argument, NULL, OPTION_KEY }, \
        { "server-certificate", required_argument, NULL, OPTION_SERVER_CERTIFICATE },                                  \
    {                                                                                                                  \
        "timeout", required_argument, NULL, OPTION_TIMEOUT                                                             \
    }

/* What --help says of them: what a program does without --server, and which VMs or volumes --project means. */
void server_help(const char *without, const char *project, FILE *out);

/* Defaults. */
void server_options_init(struct server_options *o);

/* 0: taken, -1: a wrong value. */
int server_option(struct server_options *o, int option, const char *value, char error[FAIL_SIZE]);

/* Where the server is: as given, or LXD_SOCKET, INCUS_SOCKET, LXD_DIR, INCUS_DIR, or the usual places. -1: nowhere. */
int server_find(const struct server_options *o, char where[256], char error[FAIL_SIZE]);

/* Opens it. libcurl must be up. */
int server_open(const struct server_options *o, struct migbuf_lxd **lxd, char error[FAIL_SIZE]);

/* "WHAT: the server refused (its own words)". Returns -1. */
int server_fail(char error[FAIL_SIZE], const struct migbuf_lxd *lxd, const char *what, const struct migbuf_error *e);

/* Is this one part of a path? Names are the server's word, and what is counted with them lies on this machine. */
bool server_is_file_name(const char *name);

/* Adds a name to a path of the REST interface, escaped; as much of it as there is room for. */
void server_put_escaped(char *path, size_t path_bytes, const char *name);

/* The daemon's own directory, where volumes are mounted: /var/lib/lxd. -1 where it is not on this machine. */
int server_directory(const char *where, char directory[256]);
#endif
