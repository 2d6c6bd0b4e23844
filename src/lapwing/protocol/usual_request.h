/* The head of a usual request, taken apart in one pass: where its target and the headers of an opening handshake stand.
 *
 * It takes less than HTTP allows. What it does not take may still be right, and is for `http_reader` to decide: so this
 * knows no errors. */
#ifndef LAPWING_USUAL_REQUEST_H
#define LAPWING_USUAL_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* The headers that an opening handshake is decided by. Those from UNUSUAL on are never in a usual one. */
enum {
    LAPWING_HOST,
    LAPWING_UPGRADE,
    LAPWING_CONNECTION,
    LAPWING_VERSION,
    LAPWING_KEY,
    LAPWING_ORIGIN,
    LAPWING_PROTOCOL,
    LAPWING_EXTENSIONS,
    LAPWING_USER_AGENT,
    LAPWING_UNUSUAL,
    LAPWING_OTHER
};

typedef struct {
    const char *data; /* NULL: it is not there */
    size_t size;
} lapwing_text;

typedef struct {
    size_t size; /* with the empty line at its end */
    lapwing_text headers[LAPWING_UNUSUAL];
} lapwing_head;

enum { LAPWING_IN_TOKEN = 1, LAPWING_IN_VALUE = 2, LAPWING_IN_TARGET = 4, LAPWING_IN_HOST = 8, LAPWING_IN_BASE64 = 16 };

static unsigned char lapwing_classes[256];

/* Called once, before any head is looked at. */
static void lapwing_fill_classes(void)
{
    static const char alphanumeric[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const struct {
        const char *bytes;
        unsigned char classes;
    } sets[] = {
        {alphanumeric, LAPWING_IN_TOKEN | LAPWING_IN_TARGET | LAPWING_IN_HOST | LAPWING_IN_BASE64},
        {"!#$%&'*+-.^_`|~", LAPWING_IN_TOKEN},       /* RFC 9110 section 5.6.2 */
        {"-._~:/?@!$&'()*+,;=%", LAPWING_IN_TARGET}, /* RFC 3986 section 3.3: a path and a query */
        {"-.", LAPWING_IN_HOST},                     /* a name or an IPv4 address */
        {"+/", LAPWING_IN_BASE64},
        {"\t", LAPWING_IN_VALUE},
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        for (const char *byte = sets[i].bytes; *byte; byte++)
            lapwing_classes[(unsigned char)*byte] |= sets[i].classes;
    for (int byte = 0x20; byte < 0x100; byte++) /* RFC 9110 section 5.5 */
        if (byte != 0x7F)
            lapwing_classes[byte] |= LAPWING_IN_VALUE;
}

static inline const char *lapwing_skip(const char *at, const char *end, unsigned char class)
{
    while (at < end && lapwing_classes[(unsigned char)*at] & class)
        at++;
    return at;
}

/* Whether a text is `word`, which is in lower case and of letters, digits and hyphens; the text is a token. */
static inline bool lapwing_is_word(lapwing_text text, const char *word, size_t size)
{
    if (text.size != size)
        return false;
    for (size_t i = 0; i < size; i++)
        if ((text.data[i] | 0x20) != word[i])
            return false;
    return true;
}

#define LAPWING_IS(text, word) lapwing_is_word(text, word, sizeof word - 1)

static inline int lapwing_header(lapwing_text name)
{
    switch (name.size) {
    case 4:
        return LAPWING_IS(name, "host") ? LAPWING_HOST : LAPWING_OTHER;
    case 6:
        return LAPWING_IS(name, "origin") ? LAPWING_ORIGIN : LAPWING_OTHER;
    case 7:
        return LAPWING_IS(name, "upgrade") ? LAPWING_UPGRADE : LAPWING_OTHER;
    case 10:
        return LAPWING_IS(name, "user-agent")   ? LAPWING_USER_AGENT
               : LAPWING_IS(name, "connection") ? LAPWING_CONNECTION
                                                : LAPWING_OTHER;
    case 14:
        return LAPWING_IS(name, "content-length") ? LAPWING_UNUSUAL : LAPWING_OTHER;
    case 17:
        return LAPWING_IS(name, "sec-websocket-key")   ? LAPWING_KEY
               : LAPWING_IS(name, "transfer-encoding") ? LAPWING_UNUSUAL
                                                       : LAPWING_OTHER;
    case 21:
        return LAPWING_IS(name, "sec-websocket-version") ? LAPWING_VERSION : LAPWING_OTHER;
    case 22:
        return LAPWING_IS(name, "sec-websocket-protocol") ? LAPWING_PROTOCOL : LAPWING_OTHER;
    case 24:
        return LAPWING_IS(name, "sec-websocket-extensions") ? LAPWING_EXTENSIONS : LAPWING_OTHER;
    default:
        return LAPWING_OTHER;
    }
}

/* Take the head apart that `data` begins with; false where it is no usual one, or not whole. Lines of more than `longest`
 * bytes and more than `most` headers are not usual. */
static bool lapwing_take_apart(const char *data, size_t size, size_t longest, size_t most, lapwing_head *head)
{
    static const char method[] = "GET /", version[] = " HTTP/1.1\r\n";
    const char *at = data, *end = data + size, *line = data;
    memset(head, 0, sizeof *head);
    if (size < sizeof method - 1 || memcmp(at, method, sizeof method - 1) != 0)
        return false;
    at = lapwing_skip(at + sizeof method - 1, end, LAPWING_IN_TARGET);
    if ((size_t)(end - at) < sizeof version - 1 || memcmp(at, version, sizeof version - 1) != 0)
        return false;
    at += sizeof version - 1;
    for (size_t count = 0; (size_t)(at - line) <= longest + 2; count++) {
        line = at;
        if (end - at >= 2 && at[0] == '\r' && at[1] == '\n') {
            head->size = (size_t)(at + 2 - data);
            return true;
        }
        at = lapwing_skip(at, end, LAPWING_IN_TOKEN);
        if (at == end || *at != ':' || at == line || count == most)
            return false;
        int header = lapwing_header((lapwing_text){line, (size_t)(at - line)});
        do
            at++;
        while (at < end && (*at == ' ' || *at == '\t'));
        lapwing_text value = {at, 0};
        at = lapwing_skip(at, end, LAPWING_IN_VALUE);
        if (end - at < 2 || at[0] != '\r' || at[1] != '\n')
            return false;
        value.size = (size_t)(at - value.data);
        while (value.size && (value.data[value.size - 1] == ' ' || value.data[value.size - 1] == '\t'))
            value.size--;
        at += 2;
        if (header == LAPWING_OTHER)
            continue;
        if (header == LAPWING_UNUSUAL || head->headers[header].data != NULL)
            return false;
        head->headers[header] = value;
    }
    return false;
}

/* Take the next element of a comma-separated list, perhaps an empty one; false at the end. */
static bool lapwing_next_element(lapwing_text *list, lapwing_text *element)
{
    if (list->data == NULL)
        return false;
    const char *end = list->data + list->size, *comma = memchr(list->data, ',', list->size);
    *element = (lapwing_text){list->data, comma ? (size_t)(comma - list->data) : list->size};
    *list = comma ? (lapwing_text){comma + 1, (size_t)(end - comma - 1)} : (lapwing_text){NULL, 0};
    while (element->size && (*element->data == ' ' || *element->data == '\t'))
        element->data++, element->size--;
    while (element->size && (element->data[element->size - 1] == ' ' || element->data[element->size - 1] == '\t'))
        element->size--;
    return true;
}

static bool lapwing_is_token(lapwing_text text)
{
    return text.size && lapwing_skip(text.data, text.data + text.size, LAPWING_IN_TOKEN) == text.data + text.size;
}

/* Whether a host is a name or an IPv4 address, perhaps with a port. */
static bool lapwing_is_usual_host(lapwing_text host)
{
    const char *end = host.data + host.size, *colon = lapwing_skip(host.data, end, LAPWING_IN_HOST);
    if (colon == host.data || colon == end)
        return colon != host.data;
    size_t digits = (size_t)(end - colon) - 1;
    if (*colon != ':' || digits < 1 || digits > 5)
        return false;
    unsigned int port = 0;
    for (const char *at = colon + 1; at < end; at++) {
        if (*at < '0' || *at > '9')
            return false;
        port = port * 10 + (unsigned int)(*at - '0');
    }
    return port >= 1 && port <= 65535;
}

/* Whether a key is 16 bytes in base64, with no bit set that does not count. */
static bool lapwing_is_key(lapwing_text key)
{
    return key.size == 24 && lapwing_skip(key.data, key.data + 22, LAPWING_IN_BASE64) == key.data + 22
           && strchr("AQgw", key.data[21]) != NULL && key.data[22] == '=' && key.data[23] == '=';
}

/* Whether a usual request asks for a WebSocket (RFC 6455 section 4.2.1). */
static bool lapwing_asks_for_websocket(const lapwing_head *head)
{
    const lapwing_text *headers = head->headers;
    lapwing_text version = headers[LAPWING_VERSION], list = headers[LAPWING_CONNECTION], element;
    bool upgrades = false;
    while (lapwing_next_element(&list, &element))
        upgrades |= lapwing_is_token(element) && LAPWING_IS(element, "upgrade");
    return upgrades && headers[LAPWING_HOST].data != NULL && lapwing_is_usual_host(headers[LAPWING_HOST])
           && headers[LAPWING_UPGRADE].data != NULL && lapwing_is_token(headers[LAPWING_UPGRADE])
           && LAPWING_IS(headers[LAPWING_UPGRADE], "websocket") && version.size == 2 && version.data[0] == '1'
           && version.data[1] == '3' && lapwing_is_key(headers[LAPWING_KEY]);
}

static bool lapwing_equals(lapwing_text text, const char *other, size_t size)
{
    return text.size == size && memcmp(text.data, other, size) == 0;
}

/* Whether an origin is of the very host that is asked for, by http or https. */
static bool lapwing_is_own_origin(lapwing_text origin, lapwing_text host)
{
    static const char http[] = "http://", https[] = "https://";
    size_t skipped = sizeof http - 1;
    if (origin.size > sizeof https - 1 && memcmp(origin.data, https, sizeof https - 1) == 0)
        skipped = sizeof https - 1;
    else if (origin.size <= skipped || memcmp(origin.data, http, skipped) != 0)
        return false;
    return lapwing_equals((lapwing_text){origin.data + skipped, origin.size - skipped}, host.data, host.size);
}

/* Whether a host is one of the usual names of the own machine. */
static bool lapwing_is_loopback(lapwing_text host)
{
    const char *colon = memchr(host.data, ':', host.size);
    if (colon)
        host.size = (size_t)(colon - host.data);
    return lapwing_equals(host, "localhost", 9) || lapwing_equals(host, "127.0.0.1", 9);
}

#endif
