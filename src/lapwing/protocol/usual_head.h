/* A usual head of an opening handshake, taken apart in one pass: where the headers stand by which it is decided.
 *
 * It takes less than HTTP allows. What it does not take may still be right, and is for `http_reader` to decide: so this
 * knows no errors. */
#ifndef LAPWING_USUAL_HEAD_H
#define LAPWING_USUAL_HEAD_H

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
    LAPWING_ACCEPT,
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
    case 20:
        return LAPWING_IS(name, "sec-websocket-accept") ? LAPWING_ACCEPT : LAPWING_OTHER;
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

/* Take the header lines apart that follow the first line, which ends before `at`; `data` is where the head begins. False
 * where they are not usual, or not whole. Lines of more than `longest` bytes and more than `most` headers are not usual. */
static bool lapwing_take_headers(
    const char *data, const char *at, const char *end, size_t longest, size_t most, lapwing_head *head)
{
    const char *line = data;
    memset(head, 0, sizeof *head);
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

static bool lapwing_equals(lapwing_text text, const char *other, size_t size)
{
    return text.size == size && memcmp(text.data, other, size) == 0;
}

/* Whether a list of tokens has "upgrade" in it (RFC 9110 section 7.6.1). */
static bool lapwing_upgrades(lapwing_text list)
{
    lapwing_text element;
    bool found = false;
    while (lapwing_next_element(&list, &element))
        found |= lapwing_is_token(element) && LAPWING_IS(element, "upgrade");
    return found;
}

static bool lapwing_is_websocket(lapwing_text upgrade)
{
    return upgrade.data != NULL && lapwing_is_token(upgrade) && LAPWING_IS(upgrade, "websocket");
}

#endif
