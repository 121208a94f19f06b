/* SPDX-License-Identifier: MIT */
/*
 * volume: the hidden volume all overlays share (Ω), made, shown, resized and removed on an LXD or Incus server.
 *
 * Where it is and how large it is to be are server keys, as the servers themselves do it for storage.backups_volume:
 * user.migbuf.buffer.volume = POOL/NAME, user.migbuf.buffer.size = bytes. A program that migrates reads them.
 */
#include "command.h"
#include "numbers.h"
#include "server.h"
#include "tell.h"
#include <curl/curl.h>
#include <errno.h>
#include <ftw.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_VOLUME "user.migbuf.buffer.volume"
#define KEY_SIZE "user.migbuf.buffer.size"
#define DEFAULT_NAME "migration-cow-buffer"
#define DEFAULT_SIZE (UINT64_C(10) << 30)
#define LEAST_SIZE (UINT64_C(16) << 20)
#define MOST_SIZE (UINT64_C(1) << 60)
#define MAX_POOLS 256

enum { OPTION_AUTO = SERVER_OPTIONS_END, OPTION_POOL, OPTION_SIZE, OPTION_NAME, OPTION_JSON };

struct program {
    struct server_options server;
    struct migbuf_lxd *lxd;
    struct migbuf_lxd_server facts;
    const char *command, *pool, *name, *size_text;
    uint64_t size; /* 0: not given */
    bool automatic, json;
    char key_volume[2 * MIGBUF_LXD_NAME]; /* what the server's keys say */
    uint64_t key_size;
    char warning[FAIL_SIZE];
    char error[FAIL_SIZE];
    const char *advice; /* lines that follow the error */
};

static void help(FILE *out)
{
    fprintf(out,
            "Usage: migbuf-volume [OPTIONS] init | show | resize SIZE | remove\n"
            "The volume that the overlays of all running migrations share, on an LXD or Incus server.\n"
            "\n"
            "  init             makes it: asks for the pool and the size. Where it is there already nothing is\n"
            "                   done\n"
            "  show             where it is, its size, what is in use, what happens when it is full\n"
            "  resize SIZE      never below what is in use\n"
            "  remove           deletes it, when nothing is in it but an empty file system\n"
            "\n"
            "  --auto           init without questions: %u GiB on the default pool\n"
            "  --pool NAME      the pool (that of the server's keys, else that of the default profile, else the\n"
            "                   one called default, else the only one)\n"
            "  --size SIZE      with init: its size, 16 MiB at least\n"
            "  --name NAME      the volume's name (" DEFAULT_NAME ")\n"
            "  --json           what is there afterwards as one JSON object; asks nothing\n",
            (unsigned)(DEFAULT_SIZE >> 30));
    server_help("local", "the server's project (default)", out);
    fprintf(out,
            "  --timeout S      deadline of every request to the server in seconds, 1 to 3600 (30)\n"
            "  --version        the library's version\n"
            "  -h, --help       this text\n"
            "\n"
            "SIZE takes K, M, G, T (also KiB, MB, ...). Place and size are kept as server keys\n"
            KEY_VOLUME " and " KEY_SIZE ", where programs that migrate find them.\n"
            "In a cluster each member has a volume of its own, in one pool and of one name: the keys are for all.\n"
            "The size there is that of the smallest.\n"
            "Exit status: 0 done, or it was done before; 1 it could not be done; 2 wrong options.\n");
}

/* ---- the server's keys ---- */

static int read_keys(struct program *p)
{
    struct migbuf_error e;
    char size[64];

    p->facts.size = sizeof p->facts;
    if (migbuf_lxd_server(p->lxd, p->server.timeout_ms, &p->facts, &e))
        return server_fail(p->error, p->lxd, "the server", &e);
    if (migbuf_lxd_key(p->lxd, KEY_VOLUME, p->server.timeout_ms, p->key_volume, sizeof p->key_volume, &e) ||
        migbuf_lxd_key(p->lxd, KEY_SIZE, p->server.timeout_ms, size, sizeof size, &e))
        return server_fail(p->error, p->lxd, "reading the server's keys", &e);
    if (!read_size(size, 1024, 1, MOST_SIZE, &p->key_size))
        p->key_size = 0;
    return 0;
}

/* Of a cluster: the volumes of that name that its other members have. The keys are for all of them. */
struct others {
    uint64_t least_bytes; /* of the smallest; UINT64_MAX: there is none */
    char member[MIGBUF_LXD_NAME]; /* one that has it */
};

static int find_others(struct program *p, const char *pool, const char *name, struct others *others)
{
    const char *member = p->server.target ? p->server.target : p->facts.name, *text;
    char path[1024] = "/1.0/storage-pools/";
    struct migbuf_error e;
    json_t *list, *v;
    size_t k;

    *others = (struct others){ .least_bytes = UINT64_MAX };
    if (!p->facts.clustered || !*pool)
        return 0;
    server_put_escaped(path, sizeof path, pool);
    strcat(path, "/volumes/custom?recursion=1&project=");
    server_put_escaped(path, sizeof path, p->server.project ? p->server.project : "default");
    if (migbuf_lxd_call(p->lxd, "GET", path, NULL, p->server.timeout_ms, &text, NULL, &e))
        return e.code == MIGBUF_E_NOTFOUND ? 0 : server_fail(p->error, p->lxd, "the other members' volumes", &e);
    list = json_loads(text, 0, NULL);
    json_array_foreach (list, k, v) {
        const char *its = json_string_value(json_object_get(v, "name"));
        const char *at = json_string_value(json_object_get(v, "location"));
        const char *size = json_string_value(json_object_get(json_object_get(v, "config"), "size"));
        uint64_t bytes;

        if (!its || strcmp(its, name) || !at || !*at || !strcmp(at, member))
            continue;
        snprintf(others->member, sizeof others->member, "%s", at);
        if (!size || migbuf_lxd_processed(size, strlen(size), &bytes))
            bytes = UINT64_MAX - 1; /* without a size it may fill its pool: it is not the smallest */
        others->least_bytes = bytes < others->least_bytes ? bytes : others->least_bytes;
    }
    json_decref(list);
    return 0;
}

/* In a cluster the size is that of its smallest: who reads the key may rely on it on every member. */
static int write_keys(struct program *p, const char *pool, const char *name, uint64_t size)
{
    char place[2 * MIGBUF_LXD_NAME] = "", bytes[32] = "";
    struct migbuf_error e;
    struct others others;

    if (find_others(p, pool, name, &others))
        return -1;
    if (*others.member && (!size || others.least_bytes < size))
        size = others.least_bytes < UINT64_MAX - 1 ? others.least_bytes : p->key_size;
    if (size) {
        snprintf(place, sizeof place, "%s/%s", pool, name);
        snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)size);
    }
    if ((strcmp(place, p->key_volume) && migbuf_lxd_set_key(p->lxd, KEY_VOLUME, place, p->server.timeout_ms, &e)) ||
        (size != p->key_size && migbuf_lxd_set_key(p->lxd, KEY_SIZE, bytes, p->server.timeout_ms, &e)))
        return server_fail(p->error, p->lxd, "setting the server's keys", &e);
    p->key_size = size;
    return 0;
}

/* ---- which pool ---- */

static int list_pools(struct program *p, struct migbuf_lxd_pool *pools)
{
    struct migbuf_error e;
    int n = migbuf_lxd_pools(p->lxd, p->server.timeout_ms, pools, MAX_POOLS, &e);

    if (n < 0)
        return server_fail(p->error, p->lxd, "listing the storage pools", &e);
    if (!n)
        p->advice = "Make one, for instance\n"
                    "    lxc storage create default lvm        (or: incus storage create default lvm)\n"
                    "and run this again. Volumes of an LVM pool are file systems of their own: a full one pauses a\n"
                    "guest, where a quota (btrfs, zfs) hands it an I/O error.\n";
    return n ? n : fail(p->error, "The server has no storage pool.");
}

/* The one that the server's keys name, else that of the default profile's root disk, else the one called default, else the only
 * one; -1: no such. */
static int default_pool(struct program *p, const struct migbuf_lxd_pool *pools, int count)
{
    const char *text, *name = "default", *slash = strchr(p->key_volume, '/');
    json_t *profile = NULL, *device;
    const char *key;
    int found = count == 1 ? 0 : -1;

    if (!migbuf_lxd_call(p->lxd, "GET", "/1.0/profiles/default", NULL, p->server.timeout_ms, &text, NULL, NULL))
        profile = json_loads(text, 0, NULL);
    json_object_foreach (json_object_get(profile, "devices"), key, device) {
        const char *path = json_string_value(json_object_get(device, "path"));
        const char *pool = json_string_value(json_object_get(device, "pool"));

        if (path && pool && !strcmp(path, "/"))
            name = pool;
    }
    for (int k = 0; k < count; k++)
        if (!strcmp(pools[k].name, name))
            found = k;
    for (int k = 0; k < count; k++)
        if (slash && strlen(pools[k].name) == (size_t)(slash - p->key_volume) && !strncmp(pools[k].name, p->key_volume, strlen(pools[k].name)))
            found = k;
    json_decref(profile);
    return found;
}

/* A line from a person; the default when it is empty. -1 at the end of the input. */
static int ask(const char *question, const char *usual, char answer[MIGBUF_LXD_NAME])
{
    char line[512], shown[PRINTABLE_SIZE];

    printf("%s [%s]: ", question, printable(usual, shown));
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) {
        printf("\n");
        return -1;
    }
    line[strcspn(line, "\n")] = 0;
    snprintf(answer, MIGBUF_LXD_NAME, "%.127s", *line ? line : usual);
    return 0;
}

static int find_pool(const struct migbuf_lxd_pool *pools, int count, const char *name)
{
    for (int k = 0; k < count; k++)
        if (!strcmp(pools[k].name, name))
            return k;
    return -1;
}

static int ask_pool(struct program *p, const struct migbuf_lxd_pool *pools, int count, int usual)
{
    char answer[MIGBUF_LXD_NAME];
    int found;

    printf("Storage pools:\n");
    for (int k = 0; k < count; k++)
        tell(stdout, "  %-20s %s", pools[k].name, pools[k].driver);
    do {
        if (ask("Pool for the migration buffer", usual < 0 ? pools[0].name : pools[usual].name, answer))
            return fail(p->error, "no answer; --auto asks nothing");
        found = find_pool(pools, count, answer);
        if (found < 0)
            tell(stdout, "There is no pool \"%s\".", answer);
    } while (found < 0);
    return found;
}

static int choose_pool(struct program *p, struct migbuf_lxd_pool *pool)
{
    static struct migbuf_lxd_pool pools[MAX_POOLS];
    int count = list_pools(p, pools), chosen;
    struct migbuf_error e;

    if (count < 0)
        return -1;
    chosen = p->pool ? find_pool(pools, count, p->pool) : default_pool(p, pools, count);
    if (p->pool && chosen < 0)
        return fail(p->error, "the server has no storage pool \"%s\"", p->pool);
    if (!p->pool && !p->automatic && (chosen = ask_pool(p, pools, count, chosen)) < 0)
        return -1;
    if (chosen < 0)
        return fail(p->error, "the server has %d storage pools and no default one; --pool says which", count);
    if (migbuf_lxd_pool(p->lxd, pools[chosen].name, p->server.timeout_ms, pool, &e))
        return server_fail(p->error, p->lxd, "the storage pool", &e);
    return 0;
}

static int choose_size(struct program *p, uint64_t *size)
{
    char answer[MIGBUF_LXD_NAME], usual[HUMAN_SIZE];

    *size = p->size ? p->size : p->key_size ? p->key_size : DEFAULT_SIZE;
    while (!p->size && !p->automatic) {
        snprintf(usual, sizeof usual, "%lluMiB", (unsigned long long)(*size >> 20));
        if (*size % (UINT64_C(1) << 30) == 0)
            snprintf(usual, sizeof usual, "%lluGiB", (unsigned long long)(*size >> 30));
        if (ask("Size", usual, answer))
            return fail(p->error, "no answer; --auto asks nothing");
        if (read_size(answer, 1024, LEAST_SIZE, MOST_SIZE, size))
            return 0;
        printf("A size of 16 MiB or more, as 10GiB.\n");
    }
    return 0;
}

/* ---- what is there ---- */

/* Bytes allocated below a directory, for pools that do not count. */
static uint64_t counted_bytes;

static int count_file(const char *path, const struct stat *s, int kind, struct FTW *walk)
{
    (void)path;
    (void)walk;
    if (kind == FTW_F)
        counted_bytes += (uint64_t)s->st_blocks * 512;
    return 0;
}

/* Does it lie on the member that answers, whose directory is seen from here? */
static bool is_here(const struct program *p, const struct migbuf_lxd_volume *v)
{
    return !p->facts.clustered || !strcmp(v->location, p->facts.name);
}

/* Where the pool cannot tell what is in use: counted, when the volume lies on this machine. */
static void count_usage(struct program *p, struct migbuf_lxd_volume *v)
{
    const char *project = p->server.project ? p->server.project : "default";
    char where[256], directory[256], path[1024];

    if (v->has_usage || !is_here(p, v) || server_find(&p->server, where, path) || server_directory(where, directory))
        return;
    if (!server_is_file_name(v->pool) || !server_is_file_name(v->name) || !server_is_file_name(project))
        return;
    snprintf(path, sizeof path, "%s/storage-pools/%s/custom/%s_%s", directory, v->pool, project, v->name);
    counted_bytes = 0;
    if (access(path, R_OK) || nftw(path, count_file, 16, FTW_PHYS | FTW_MOUNT))
        return;
    v->used_bytes = counted_bytes;
    v->has_usage = 1;
}

/* Finds the volume by options and keys: 1 there, 0 not. `pool` and `name` are where it is or would be; pool may be "". */
static int find_volume(struct program *p, char pool[MIGBUF_LXD_NAME], char name[MIGBUF_LXD_NAME],
                       struct migbuf_lxd_volume *v)
{
    const char *slash = strchr(p->key_volume, '/');
    struct migbuf_error e;
    int rc;

    snprintf(pool, MIGBUF_LXD_NAME, "%s", p->pool ? p->pool : "");
    snprintf(name, MIGBUF_LXD_NAME, "%s", p->name ? p->name : DEFAULT_NAME);
    if (slash && !p->pool)
        snprintf(pool, MIGBUF_LXD_NAME, "%.*s", (int)(slash - p->key_volume), p->key_volume);
    if (slash && !p->name)
        snprintf(name, MIGBUF_LXD_NAME, "%s", slash + 1);
    if (!*pool)
        return 0;
    rc = migbuf_lxd_volume(p->lxd, pool, name, p->server.timeout_ms, v, &e);
    if (rc == MIGBUF_E_NOTFOUND)
        return 0;
    if (rc)
        return server_fail(p->error, p->lxd, "the volume", &e);
    return 1;
}

static const char *when_full(int32_t limit)
{
    switch (limit) {
    case MIGBUF_LXD_LIMIT_ENOSPC:
        return "ENOSPC";
    case MIGBUF_LXD_LIMIT_EDQUOT:
        return "EDQUOT";
    case MIGBUF_LXD_LIMIT_NONE:
        return "unlimited";
    default:
        return "unknown";
    }
}

static void warn_of(struct program *p, const struct migbuf_lxd_pool *pool)
{
    if (pool->limit == MIGBUF_LXD_LIMIT_EDQUOT)
        snprintf(p->warning, sizeof p->warning,
                 "a volume of a %s pool is limited by a quota. Full is EDQUOT there, which QEMU hands to the guest as an "
                 "I/O error instead of pausing it. Who migrates must keep below the quota (migbuf does); a pool with "
                 "volumes that are file systems of their own (lvm, ceph, zfs with volume.zfs.block_mode) pauses the guest.",
                 pool->driver);
    else if (pool->limit == MIGBUF_LXD_LIMIT_NONE)
        snprintf(p->warning, sizeof p->warning,
                 "a volume of a %s pool is limited only where the file system below has project quotas (then full is "
                 "EDQUOT: an I/O error in the guest); elsewhere not at all: it can fill the whole pool. Who migrates must "
                 "keep to the size by itself (migbuf does).",
                 pool->driver);
    else if (pool->limit == MIGBUF_LXD_LIMIT_UNKNOWN)
        snprintf(p->warning, sizeof p->warning,
                 "how a %s pool limits its volumes is not known here; try what QEMU does when one is full", pool->driver);
    if (pool->remote)
        snprintf(p->warning, sizeof p->warning,
                 "all members of the cluster see the volumes of a %s pool: VMs on it need no overlay to be migrated",
                 pool->driver);
}

static int print_object(json_t *object)
{
    int rc = json_dumpf(object, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII); /* printable, whatever a name holds */

    printf("\n");
    json_decref(object);
    return rc;
}

static int print_json(const struct migbuf_lxd_volume *v, const struct migbuf_lxd_pool *pool, const struct program *p,
                      const char *done)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:I}", "result", done, "pool", v->pool, "name",
                          v->name, "driver", pool->driver, "location", v->location, "size_bytes",
                          (json_int_t)v->size_bytes, "pool_free_bytes", (json_int_t)pool->free_bytes, "when_full",
                          when_full(pool->limit), "configured_size_bytes", (json_int_t)p->key_size);

    json_object_set_new(o, "used_bytes", v->has_usage ? json_integer((json_int_t)v->used_bytes) : json_null());
    if (*p->warning)
        json_object_set_new(o, "warning", json_string(p->warning));
    return print_object(o);
}

static int print(struct program *p, const struct migbuf_lxd_volume *v, const char *done)
{
    struct migbuf_lxd_pool pool;
    struct migbuf_error e;
    char a[HUMAN_SIZE], b[HUMAN_SIZE];

    if (migbuf_lxd_pool(p->lxd, v->pool, p->server.timeout_ms, &pool, &e))
        return server_fail(p->error, p->lxd, "the storage pool", &e);
    warn_of(p, &pool);
    if (p->json)
        return print_json(v, &pool, p, done);
    tell(stdout, "volume     %s/%s%s%s", v->pool, v->name, strcmp(v->location, "none") && *v->location ? " on " : "",
           strcmp(v->location, "none") ? v->location : "");
    tell(stdout, "size       %s", v->size_bytes ? human_binary(v->size_bytes, a) : "none");
    if (v->has_usage)
        tell(stdout, "in use     %s", human_binary(v->used_bytes, a));
    else
        tell(stdout, "in use     not known, the pool does not tell");
    tell(stdout, "pool       %s, %s of %s free", pool.driver, human_binary(pool.free_bytes, a),
         human_binary(pool.total_bytes, b));
    tell(stdout, "when full  %s", when_full(pool.limit));
    if (p->key_size != v->size_bytes)
        tell(stdout, "note       the server key " KEY_SIZE " says %s%s", p->key_size ? human_binary(p->key_size, a) : "nothing",
             p->facts.clustered && p->key_size ? ": that of the smallest among the cluster's members" : "");
    return 0;
}

/* ---- the commands ---- */

static int say_there_already(struct program *p, const struct migbuf_lxd_volume *v)
{
    char a[HUMAN_SIZE], b[HUMAN_SIZE];

    if (write_keys(p, v->pool, v->name, v->size_bytes)) /* first: nobody may read what is said */
        return -1;
    if (!p->json)
        tell(stdout, "It is there already: %s/%s, %s.", v->pool, v->name, human_binary(v->size_bytes, a));
    if (p->size && p->size != v->size_bytes && !p->json)
        tell(stdout, "Its size stays; `migbuf-volume resize %s` makes it %s.", p->size_text, human_binary(p->size, b));
    return 0;
}

static int no_room(struct program *p, const struct migbuf_lxd_pool *pool, const struct migbuf_error *e)
{
    char a[HUMAN_SIZE], b[HUMAN_SIZE], c[HUMAN_SIZE];
    uint64_t mib = e->have >> 20;

    return fail(p->error, "the pool %s has %s free (%llu bytes), %s are wanted. --size %lluMiB would take half of what is free (%s)",
                pool->name, human_binary(e->have, a), (unsigned long long)e->have, human_binary(e->need, b),
                (unsigned long long)(mib / 2), human_binary(e->have / 2, c));
}

static int make(struct program *p, const struct migbuf_lxd_pool *pool, const char *name, uint64_t size)
{
    struct migbuf_error e;
    int rc;

    if (isatty(2))
        tell(stderr, "Making %s/%s ...", pool->name, name);
    rc = migbuf_lxd_volume_create(p->lxd, pool->name, name, size, p->server.timeout_ms, &e);
    if (rc == MIGBUF_E_NOSPACE)
        return no_room(p, pool, &e);
    if (rc && rc != MIGBUF_E_EXISTS) /* somebody was quicker */
        return server_fail(p->error, p->lxd, "making the volume", &e);
    return 0;
}

/* The members of a cluster have one key for all their volumes. */
static int refuse_other_place(struct program *p, const char *pool, const char *name)
{
    char place[2 * MIGBUF_LXD_NAME], old_pool[MIGBUF_LXD_NAME] = "";
    const char *slash = strchr(p->key_volume, '/');
    struct others others;

    snprintf(place, sizeof place, "%s/%s", pool, name);
    if (!slash || !strcmp(place, p->key_volume))
        return 0;
    snprintf(old_pool, sizeof old_pool, "%.*s", (int)(slash - p->key_volume), p->key_volume);
    if (find_others(p, old_pool, slash + 1, &others))
        return -1;
    return !*others.member ? 0
                           : fail(p->error, "member %s has the migration buffer as %s, and the server's keys are for all members: without "
                                            "--pool and --name it is made there", others.member, p->key_volume);
}

static int init(struct program *p)
{
    char place[MIGBUF_LXD_NAME], name[MIGBUF_LXD_NAME];
    struct migbuf_lxd_pool pool;
    struct migbuf_lxd_volume v;
    struct migbuf_error e;
    uint64_t size;
    int there = find_volume(p, place, name, &v);

    if (there < 0)
        return -1;
    if (!there) {
        if (choose_pool(p, &pool))
            return -1;
        there = !migbuf_lxd_volume(p->lxd, pool.name, name, p->server.timeout_ms, &v, &e); /* without its keys */
    }
    if (there)
        return say_there_already(p, &v) || print(p, &v, "there already");
    if (refuse_other_place(p, pool.name, name))
        return -1;
    if (choose_size(p, &size) || make(p, &pool, name, size) || write_keys(p, pool.name, name, size))
        return -1;
    if (migbuf_lxd_volume(p->lxd, pool.name, name, p->server.timeout_ms, &v, &e))
        return server_fail(p->error, p->lxd, "the volume", &e);
    count_usage(p, &v);
    return print(p, &v, "made");
}

/* For the commands that need one. */
static int need_volume(struct program *p, struct migbuf_lxd_volume *v)
{
    char pool[MIGBUF_LXD_NAME], name[MIGBUF_LXD_NAME];
    int there = find_volume(p, pool, name, v);

    if (there < 0)
        return -1;
    if (!there)
        return fail(p->error, "there is no migration buffer%s%s; `migbuf-volume init` makes one", *pool ? " in the pool " : "",
                    pool);
    count_usage(p, v);
    return 0;
}

static int show(struct program *p)
{
    struct migbuf_lxd_volume v;

    return need_volume(p, &v) || print(p, &v, "shown");
}

static int refuse_shrink(struct program *p, uint64_t used)
{
    char a[HUMAN_SIZE], b[HUMAN_SIZE];

    return fail(p->error, "%s are in use (%llu bytes), %s are asked for (%llu): nothing was changed",
                human_binary(used, a), (unsigned long long)used, human_binary(p->size, b), (unsigned long long)p->size);
}

static int resize(struct program *p)
{
    struct migbuf_lxd_volume v;
    struct migbuf_error e;
    int rc;

    if (need_volume(p, &v))
        return -1;
    if (v.has_usage && p->size < v.used_bytes)
        return refuse_shrink(p, v.used_bytes);
    if (!v.has_usage && p->size < v.size_bytes)
        snprintf(p->warning, sizeof p->warning, "the pool does not tell what is in use: nobody checked that it fits");
    rc = p->size == v.size_bytes
             ? 0
             : migbuf_lxd_volume_resize(p->lxd, v.pool, v.name, p->size, p->server.timeout_ms, &e);
    if (rc == MIGBUF_E_IN_USE)
        return refuse_shrink(p, e.need);
    if (rc == MIGBUF_E_NOSPACE) {
        struct migbuf_lxd_pool pool = { .limit = 0 };

        snprintf(pool.name, sizeof pool.name, "%s", v.pool);
        return no_room(p, &pool, &e);
    }
    if (rc)
        return server_fail(p->error, p->lxd, "resizing the volume", &e);
    if (write_keys(p, v.pool, v.name, p->size))
        return -1;
    v.size_bytes = p->size;
    return print(p, &v, "resized");
}

static int remove_it(struct program *p)
{
    char pool[MIGBUF_LXD_NAME], name[MIGBUF_LXD_NAME], a[HUMAN_SIZE];
    struct migbuf_lxd_volume v;
    struct migbuf_error e;
    int there = find_volume(p, pool, name, &v);
    struct others others;

    if (there < 0 || find_others(p, pool, name, &others))
        return -1;
    if (!there && *others.member)
        return fail(p->error, "this member has no migration buffer; member %s has one", others.member);
    if (!there && !*p->key_volume)
        return fail(p->error, "there is no migration buffer");
    if (there) {
        count_usage(p, &v);
        if (!v.has_usage)
            return fail(p->error, "what is in use cannot be told from here%s%s: migrations may be under way. Run this on its host. Nothing was removed",
                        is_here(p, &v) ? "" : ", it is on member ", is_here(p, &v) ? "" : v.location);
        if (v.used_bytes > UINT64_C(8) << 20) /* an empty file system is less */
            return fail(p->error, "%s are in use: migrations may be under way. Nothing was removed",
                        human_binary(v.used_bytes, a));
        if (migbuf_lxd_volume_delete(p->lxd, pool, name, p->server.timeout_ms, &e))
            return server_fail(p->error, p->lxd, "removing the volume", &e);
    }
    if (write_keys(p, pool, name, 0))
        return -1;
    if (p->json)
        return print_object(json_pack("{s:s, s:s, s:s}", "result", "removed", "pool", pool, "name", name));
    tell(stdout, "Removed %s/%s.", pool, name);
    return 0;
}

/* ---- the command line ---- */

static const struct option names[] = {
    SERVER_OPTIONS,
    { "auto", no_argument, NULL, OPTION_AUTO },
    { "pool", required_argument, NULL, OPTION_POOL },
    { "size", required_argument, NULL, OPTION_SIZE },
    { "name", required_argument, NULL, OPTION_NAME },
    { "json", no_argument, NULL, OPTION_JSON },
    COMMAND_OPTIONS,
};

static int take_size(struct program *p, const char *text)
{
    p->size_text = text;
    return read_size(text, 1024, LEAST_SIZE, MOST_SIZE, &p->size)
               ? 0
               : fail(p->error, "%s: a size of 16 MiB or more, as 10GiB", text);
}

static int take_option(void *program, int option, const char *value, char error[FAIL_SIZE])
{
    struct program *p = program;

    switch (option) {
    case OPTION_AUTO:
        p->automatic = true;
        return 0;
    case OPTION_POOL:
        p->pool = value;
        return 0;
    case OPTION_SIZE:
        return take_size(p, value);
    case OPTION_NAME:
        p->name = value;
        return 0;
    case OPTION_JSON:
        p->json = true;
        return 0;
    default:
        return server_option(&p->server, option, value, error);
    }
}

static int read_options(struct program *p, int argc, char **argv)
{
    static const struct command command = { "migbuf-volume", names, help, take_option };
    int rc;

    server_options_init(&p->server);
    rc = command_read(&command, p, argc, argv, p->error);
    if (rc)
        return rc;
    if (optind == argc)
        return fail(p->error, "a command is missing: init, show, resize SIZE or remove; --help says more");
    p->command = argv[optind++];
    if (!strcmp(p->command, "resize")) {
        if (optind == argc)
            return fail(p->error, "resize needs a size, as 20GiB");
        if (take_size(p, argv[optind++]))
            return -1;
    }
    if (optind < argc)
        return fail(p->error, "%s: too much after the command, see --help", argv[optind]);
    if (p->json)
        p->automatic = true;
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(struct program *);
    } commands[] = { { "init", init }, { "show", show }, { "resize", resize }, { "remove", remove_it } };
    struct program p = { .automatic = false };
    int (*run)(struct program *) = NULL;
    int rc = read_options(&p, argc, argv);

    if (rc == 1)
        return 0;
    for (size_t k = 0; rc == 0 && k < sizeof commands / sizeof *commands; k++)
        if (!strcmp(commands[k].name, p.command))
            run = commands[k].run;
    if (rc == 0 && !run)
        rc = fail(p.error, "%s is no command: init, show, resize SIZE, remove", p.command);
    if (rc) {
        tell(stderr, "migbuf-volume: %s", p.error);
        return 2;
    }
    curl_global_init(CURL_GLOBAL_DEFAULT);
    rc = server_open(&p.server, &p.lxd, p.error) || read_keys(&p) || run(&p);
    if (!rc && (fflush(stdout) || ferror(stdout)))
        rc = fail(p.error, "it is done, but standard output: %s", strerror(errno));
    migbuf_lxd_free(p.lxd);
    curl_global_cleanup();
    if (rc) {
        tell(stderr, "migbuf-volume: %s", p.error);
        fputs(p.advice ? p.advice : "", stderr);
    } else if (*p.warning && !p.json) {
        tell(stderr, "warning: %s", p.warning);
    }
    return rc ? 1 : 0;
}
