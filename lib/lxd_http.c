/* SPDX-License-Identifier: MIT */
#include "lxd_http.h"
#include "memory.h"
#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>

#define FIRST_ROOM 4096

/* These servers send a few hundred bytes of headers; libcurl 7.62 would take them without end. */
#define MAX_HEADER_BYTES 65536

/* Beyond this libcurl's own `long` would overflow where that has 32 bits; it is 24 days. */
#define MAX_TIMEOUT_MS INT32_MAX

uint64_t migbuf__http_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void migbuf__http_sleep_ms(uint32_t ms)
{
    struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

    while (nanosleep(&t, &t) && errno == EINTR)
        ;
}

/* Room for `bytes` more and a NUL. */
static int make_room(struct migbuf__http *h, size_t bytes)
{
    size_t room = h->room ? h->room : FIRST_ROOM;
    char *larger;

    if (bytes > h->max_reply_bytes - h->reply_bytes)
        return MIGBUF_E_TOO_BIG;
    while (room - h->reply_bytes <= bytes)
        room *= 2;
    if (room == h->room)
        return 0;
    larger = migbuf__resize(&h->allocator, h->reply, h->room, room, 1);
    if (!larger)
        return MIGBUF_E_NOMEM;
    h->reply = larger;
    h->room = room;
    return 0;
}

static size_t take(char *bytes, size_t one, size_t count, void *context)
{
    struct migbuf__http *h = context;
    size_t n = one * count;

    h->failure = make_room(h, n);
    if (h->failure)
        return 0; /* libcurl then ends the transfer with CURLE_WRITE_ERROR */
    memcpy(h->reply + h->reply_bytes, bytes, n);
    h->reply_bytes += n;
    h->reply[h->reply_bytes] = 0;
    return n;
}

static size_t take_header(char *bytes, size_t one, size_t count, void *context)
{
    struct migbuf__http *h = context;

    (void)bytes;
    h->header_bytes += one * count;
    if (h->header_bytes > MAX_HEADER_BYTES)
        h->failure = MIGBUF_E_TOO_BIG;
    return h->failure ? 0 : one * count;
}

static CURLcode set_place(CURL *c, const char *where, const struct migbuf_lxd_options *o)
{
    CURLcode rc;

    if (*where == '/')
        return curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, where);
    rc = curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (!rc && o->certificate)
        rc = curl_easy_setopt(c, CURLOPT_SSLCERT, o->certificate);
    if (!rc && o->key)
        rc = curl_easy_setopt(c, CURLOPT_SSLKEY, o->key);
    if (!rc && o->server_certificate) { /* these servers sign for themselves: that certificate is its own authority */
        rc = curl_easy_setopt(c, CURLOPT_CAINFO, o->server_certificate);
        if (!rc)
            rc = curl_easy_setopt(c, CURLOPT_CAPATH, (char *)NULL);
        if (!rc)
            rc = curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    return rc;
}

static CURLcode set_options(struct migbuf__http *h, const char *where, const struct migbuf_lxd_options *o)
{
    CURL *c = h->curl;
    CURLcode rc = curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);

    if (!rc)
        rc = curl_easy_setopt(c, CURLOPT_URL, *where == '/' ? "http://lxd" : where);
    if (!rc)
        rc = curl_easy_setopt(c, CURLOPT_PROXY, "");
    if (!rc)
        rc = curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    if (!rc)
        rc = curl_easy_setopt(c, CURLOPT_HTTPHEADER, (struct curl_slist *)h->headers);
    if (!rc)
        rc = curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take);
    if (!rc)
        rc = curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
    if (!rc)
        rc = curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, take_header);
    if (!rc)
        rc = curl_easy_setopt(c, CURLOPT_HEADERDATA, h);
    if (!rc)
        rc = curl_easy_setopt(c, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)h->max_reply_bytes);
    return rc ? rc : set_place(c, where, o);
}

/* Printable ASCII without blanks: nothing that ends a line or a word of a request. */
static int is_plain(const char *text)
{
    while (*text > 0x20 && *text < 0x7F)
        text++;
    return !*text;
}

static int is_method(const char *method)
{
    static const char *const known[] = { "GET", "POST", "PUT", "PATCH", "DELETE" };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(method, known[i]))
            return 1;
    return 0;
}

int migbuf__http_new(struct migbuf__http *h, const char *where, const struct migbuf_lxd_options *o,
                     const struct migbuf_allocator *allocator, struct migbuf_error *error)
{
    const struct sockaddr_un *address = NULL;

    *h = (struct migbuf__http){ .allocator = *allocator, .max_reply_bytes = o->max_reply_bytes };
    if (*where != '/' && (strncmp(where, "https://", 8) || !is_plain(where)))
        return migbuf__fail(error, MIGBUF_E_INVALID, "a server is the path of a socket, or https://HOST:PORT");
    if (*where == '/' && strlen(where) >= sizeof address->sun_path)
        return migbuf__fail_numbers(error, MIGBUF_E_TOO_BIG, "the path does not fit a unix socket's address",
                                    strlen(where) + 1, sizeof address->sun_path);
    h->curl = curl_easy_init();
    h->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (!h->curl || !h->headers || set_options(h, where, o)) {
        migbuf__http_free(h);
        return migbuf__fail(error, MIGBUF_E_NOMEM, "libcurl gives no handle");
    }
    return 0;
}

void migbuf__http_free(struct migbuf__http *h)
{
    curl_easy_cleanup(h->curl);
    curl_slist_free_all(h->headers);
    migbuf__free(&h->allocator, h->reply, h->room);
    *h = (struct migbuf__http){ .allocator = h->allocator };
}

static int explain(const struct migbuf__http *h, CURLcode rc, struct migbuf_error *error)
{
    long os = 0;

    curl_easy_getinfo(h->curl, CURLINFO_OS_ERRNO, &os);
    switch (rc) {
    case CURLE_OPERATION_TIMEDOUT:
        return migbuf__fail(error, MIGBUF_E_TIMEOUT, "the server did not answer in time");
    case CURLE_COULDNT_CONNECT:
        if (os == EACCES || os == EPERM)
            return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "no permission to use the server's socket", (int)os);
        return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "no server answers there", (int)os);
    case CURLE_COULDNT_RESOLVE_HOST:
        return migbuf__fail(error, MIGBUF_E_SYSTEM, "the server's name is not known");
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        return migbuf__fail_errno(error, MIGBUF_E_CLOSED, "the server's reply was cut", (int)os);
    case CURLE_FILESIZE_EXCEEDED:
        return migbuf__fail(error, MIGBUF_E_TOO_BIG, "the server's reply is longer than the bound");
    case CURLE_WRITE_ERROR:
        if (h->failure == MIGBUF_E_NOMEM)
            return migbuf__fail(error, MIGBUF_E_NOMEM, "no memory for the server's reply");
        return migbuf__fail(error, MIGBUF_E_TOO_BIG, "the server's reply is longer than the bound");
    case CURLE_OUT_OF_MEMORY:
        return migbuf__fail(error, MIGBUF_E_NOMEM, "no memory in libcurl");
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
        return migbuf__fail(error, MIGBUF_E_PEER, "no trust between this client's and the server's certificates");
    default:
        return migbuf__fail(error, MIGBUF_E_PROTOCOL, "the server's reply is not HTTP as these servers speak it");
    }
}

/* The path is no part of the URL: when memory runs out while libcurl takes a URL to pieces, libcurl 7.88 goes on
 * without its query, and a change meant for one project would be made in another. */
static CURLcode prepare(struct migbuf__http *h, const char *method, const char *path, const char *body,
                        uint64_t timeout_ms)
{
    CURL *c = h->curl;
    long limit_ms = (long)(timeout_ms < MAX_TIMEOUT_MS ? timeout_ms : MAX_TIMEOUT_MS);
    CURLcode rc = curl_easy_setopt(c, CURLOPT_REQUEST_TARGET, path);

    if (!rc)
        rc = curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(body ? strlen(body) : 0));
    if (!rc)
        rc = curl_easy_setopt(c, CURLOPT_POSTFIELDS, body); /* not copied: it lives until the request is over */
    if (!rc && !body)
        rc = curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
    if (!rc)
        rc = curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
    if (!rc)
        rc = curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, limit_ms);
    return rc;
}

int migbuf__http_request(struct migbuf__http *h, const char *method, const char *path, const char *body,
                         uint64_t timeout_ms, long *status, struct migbuf_error *error)
{
    char words[CURL_ERROR_SIZE] = "", *elsewhere = NULL;
    CURLcode rc;

    if (!is_method(method) || *path != '/' || !is_plain(path))
        return migbuf__fail(error, MIGBUF_E_INVALID, "a request is GET, POST, PUT, PATCH or DELETE, and a path without blanks");
    h->header_bytes = h->reply_bytes = 0;
    h->failure = make_room(h, 0);
    h->words[0] = 0;
    if (h->failure)
        return migbuf__fail(error, MIGBUF_E_NOMEM, "no memory for the server's reply");
    h->reply[0] = 0;
    if (!timeout_ms) /* which libcurl takes for no limit */
        return migbuf__fail(error, MIGBUF_E_TIMEOUT, "the server did not answer in time");
    if (prepare(h, method, path, body, timeout_ms))
        return migbuf__fail(error, MIGBUF_E_NOMEM, "no memory in libcurl");
    curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, words);
    rc = curl_easy_perform(h->curl);
    curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, (char *)NULL);
    if (rc) {
        migbuf_printable(*words ? words : curl_easy_strerror(rc), h->words, sizeof h->words);
        return explain(h, rc, error);
    }
    curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, status);
    curl_easy_getinfo(h->curl, CURLINFO_REDIRECT_URL, &elsewhere);
    if (elsewhere)
        migbuf_printable(elsewhere, h->words, sizeof h->words);
    return 0;
}
