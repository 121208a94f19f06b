/* SPDX-License-Identifier: MIT */
/* Where a server is found, how it is opened, and what is said when it refuses. See server.h. */
#include "server.h"
#include "command.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void server_help(const char *without, const char *project, FILE *out)
{
    fprintf(out,
            "  --server WHERE   path of its unix socket, https://HOST:PORT, or local: LXD_SOCKET, INCUS_SOCKET,\n"
            "                   LXD_DIR, INCUS_DIR, else the usual places of LXD, its snap, and Incus (%s)\n"
            "  --project NAME   %s\n"
            "  --target MEMBER  in a cluster: the member that is meant (the one that answers)\n"
            "  --certificate FILE, --key FILE\n"
            "                   the client's certificate and private key, for https\n"
            "  --server-certificate FILE\n"
            "                   believe this server's certificate and no other\n",
            without, project);
}

void server_options_init(struct server_options *o)
{
    *o = (struct server_options){ .timeout_ms = 30000 };
}

int server_option(struct server_options *o, int option, const char *value, char error[FAIL_SIZE])
{
    uint32_t seconds;

    switch (option) {
    case OPTION_SERVER:
        o->where = value;
        return 0;
    case OPTION_PROJECT:
        o->project = value;
        return 0;
    case OPTION_TARGET:
        o->target = value;
        return 0;
    case OPTION_CERTIFICATE:
        o->certificate = value;
        return 0;
    case OPTION_KEY:
        o->key = value;
        return 0;
    case OPTION_SERVER_CERTIFICATE:
        o->server_certificate = value;
        return 0;
    default:
        if (command_number32("timeout", value, 1, 3600, "seconds", &seconds, error))
            return -1;
        o->timeout_ms = seconds * 1000;
        return 0;
    }
}

int server_find(const struct server_options *o, char where[256], char error[FAIL_SIZE])
{
    static const char *const sockets[] = { "LXD_SOCKET", "INCUS_SOCKET" };
    static const char *const directories[] = { "LXD_DIR", "INCUS_DIR" };
    static const char *const usual[] = { "/var/snap/lxd/common/lxd/unix.socket", "/var/lib/lxd/unix.socket",
                                         "/run/incus/unix.socket", "/var/lib/incus/unix.socket" };
    const char *found = o->where && strcmp(o->where, "local") ? o->where : NULL;

    if (found && !strncmp(found, "unix:", 5))
        found += 5;
    for (size_t k = 0; !found && k < 2; k++)
        found = getenv(sockets[k]);
    if (found) {
        snprintf(where, 256, "%s", found);
        return 0;
    }
    for (size_t k = 0; k < 2; k++)
        if (getenv(directories[k])) {
            snprintf(where, 256, "%s/unix.socket", getenv(directories[k]));
            return 0;
        }
    for (size_t k = 0; k < sizeof usual / sizeof *usual; k++)
        if (!access(usual[k], F_OK)) {
            snprintf(where, 256, "%s", usual[k]);
            return 0;
        }
    return fail(error, "no LXD and no Incus found on this machine; --server says where one is");
}

int server_fail(char error[FAIL_SIZE], const struct migbuf_lxd *lxd, const char *what, const struct migbuf_error *e)
{
    const char *said = migbuf_lxd_said(lxd);

    if (*said)
        return fail(error, "%s: %s (%s)", what, e->text, said);
    if (e->os_errno)
        return fail(error, "%s: %s (%s)", what, e->text, strerror(e->os_errno));
    return fail(error, "%s: %s", what, e->text);
}

int server_open(const struct server_options *o, struct migbuf_lxd **lxd, char error[FAIL_SIZE])
{
    struct migbuf_lxd_options options;
    struct migbuf_error e;
    char where[256];

    if (server_find(o, where, error))
        return -1;
    migbuf_lxd_options_init(&options, sizeof options);
    options.project = o->project;
    options.target = o->target;
    options.certificate = o->certificate;
    options.key = o->key;
    options.server_certificate = o->server_certificate;
    if (migbuf_lxd_open(where, &options, NULL, o->timeout_ms, lxd, &e))
        return server_fail(error, NULL, where, &e);
    return 0;
}

void server_put_escaped(char *path, size_t path_bytes, const char *name)
{
    size_t n = strlen(path);

    for (; *name && n + 4 < path_bytes; name++)
        n += (size_t)snprintf(path + n, path_bytes - n, "%%%02X", (unsigned char)*name);
}

bool server_is_file_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

int server_directory(const char *where, char directory[256])
{
    size_t length = strlen(where);
    static const char tail[] = "/unix.socket";

    if (*where != '/')
        return -1;
    if (!strcmp(where, "/run/incus/unix.socket"))
        where = "/var/lib/incus/unix.socket", length = strlen(where);
    if (length < sizeof tail || strcmp(where + length - sizeof tail + 1, tail) || length > 255)
        return -1;
    snprintf(directory, 256, "%.*s", (int)(length - sizeof tail + 1), where);
    return 0;
}
