#include <arpa/inet.h>

#include "base/num.h"
#include "net/tcp.h"

bool address_parse(const char *text, struct address *ret_address) {
    const char *colon = strrchr(text, ':');
    if (!colon)
        return false;
    struct slice host = slice_of(text, (size_t)(colon - text));
    struct in6_addr v6;
    struct address a = {.port = 0};
    bool bracketed = host.size >= 2 && host.data[0] == '[' && host.data[host.size - 1] == ']';
    if (bracketed)
        host = slice_of(host.data + 1, host.size - 2);
    if (host.size >= sizeof a.host)
        return false;
    memcpy(a.host, host.data, host.size);
    if (bracketed && inet_pton(AF_INET6, a.host, &v6) != 1)
        return false;
    for (size_t i = 0; i < host.size && !bracketed; i++)
        if (host.data[i] <= ' ' || host.data[i] >= 0x7f || strchr(":[]/@", host.data[i]))
            return false;
    uint64_t port;
    if (!num_parse_u64(slice_str(colon + 1), &port) || port > UINT16_MAX)
        return false;
    a.port = (uint16_t)port;
    *ret_address = a;
    return true;
}

bool address_is_loopback(const struct address *a) {
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, a->host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, a->host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcasecmp(a->host, "localhost") == 0;
}
