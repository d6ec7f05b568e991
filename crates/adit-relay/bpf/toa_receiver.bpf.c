// SPDX-License-Identifier: MIT OR Apache-2.0
//
// TOA, the receiving side: reads the option with the client's address from the segment that completes a handshake, and
// shows that address to programs in place of the peer's. src/toa/receiver.rs loads it.
//
// Anybody can send the option. It is believed of peers in one block of addresses alone.
#include "kernel.h"

#define OPTION_LENGTH 8
#define HEADER_BYTES 20      // a TCP header without options
#define OPTIONS_BYTES_MAX 40 // all that it has room for; some options are one byte
#define V4_IN_V6 __builtin_bswap32(0xffff)

// Set by user space before it loads this. Both in network byte order.
const volatile __u32 believed_network = 0;
const volatile __u32 believed_mask = 0xffffffff;
const volatile __u8 option_kind = 254;

// What became of connections that were accepted.
enum { BELIEVED, NOT_BELIEVED, WITHOUT, OUTCOMES };
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, OUTCOMES);
    __type(key, __u32);
    __type(value, __u64);
} outcomes SEC(".maps");

// In network byte order.
struct client {
    __u32 ip;
    __u16 port;
    __u16 unused;
};

// The client of a connection, where one was named by a peer that is believed.
struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct client);
} clients SEC(".maps");

static always_inline int count(__u32 outcome)
{
    __u64 *n = bpf_map_lookup_elem(&outcomes, &outcome);
    if (n)
        __sync_fetch_and_add(n, 1);
    return 1;
}

static always_inline int is_believed(struct bpf_sock_ops *ops)
{
    // Kept apart, since the kernel refuses a load from an address that was computed.
    __u32 v4 = keep(ops->remote_ip4), last = keep(ops->remote_ip6[3]);
    __u32 before = keep(ops->remote_ip6[0]) | keep(ops->remote_ip6[1]) | (keep(ops->remote_ip6[2]) ^ V4_IN_V6);
    if (ops->family == AF_INET)
        return (v4 & believed_mask) == believed_network;
    // A listener for both families sees IPv4 like this.
    return before == 0 && (last & believed_mask) == believed_network;
}

SEC("sockops")
int toa_receiver(struct bpf_sock_ops *ops)
{
    if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
        return 1;
    __u8 *header = ops->skb_data, *end = ops->skb_data_end;
    struct bpf_sock *sk = ops->sk;
    if (!sk)
        return 1;
    // Before it runs this, the kernel follows every path through it. So each turn of the loop has one way on and no more, and
    // what is looked at is kept as a number, which is compared more easily than a pointer that moves.
    __u32 wanted = option_kind << 8 | OPTION_LENGTH;
    __u32 at = 0;
    for (int i = 0; i < OPTIONS_BYTES_MAX; i++) {
        at = keep(at);
        __u8 *option = header + HEADER_BYTES + at;
        // Shorter ones may follow, but not the one that is looked for.
        if (at > OPTIONS_BYTES_MAX - OPTION_LENGTH || option + OPTION_LENGTH > end)
            break;
        __u32 kind = option[0], length = option[1];
        if (keep(kind << 8 | length) == wanted) {
            struct client client = {};
            if (!is_believed(ops))
                return count(NOT_BELIEVED);
            __builtin_memcpy(&client.port, option + 2, sizeof(client.port));
            __builtin_memcpy(&client.ip, option + 4, sizeof(client.ip));
            bpf_sk_storage_get(&clients, sk, &client, BPF_SK_STORAGE_GET_F_CREATE);
            return count(BELIEVED);
        }
        // Kind 1 is one byte of padding, without a length; kind 0 ends the list.
        __u32 is_padding = keep(((kind ^ 1) - 1) >> 31);
        __u32 step = is_padding | (length & (is_padding - 1));
        if (kind == 0 || step + is_padding < 2)
            break;
        at += step;
    }
    return count(WITHOUT);
}

static always_inline struct client *client_of(struct bpf_sock_addr *address)
{
    struct bpf_sock *sk = address->sk;
    return sk ? bpf_sk_storage_get(&clients, sk, 0, 0) : 0;
}

SEC("cgroup/getpeername4")
int toa_peer4(struct bpf_sock_addr *address)
{
    struct client *client = client_of(address);
    if (client) {
        address->user_ip4 = client->ip;
        address->user_port = client->port;
    }
    return 1;
}

SEC("cgroup/getpeername6")
int toa_peer6(struct bpf_sock_addr *address)
{
    struct client *client = client_of(address);
    if (client) {
        address->user_ip6[0] = 0;
        address->user_ip6[1] = 0;
        address->user_ip6[2] = V4_IN_V6;
        address->user_ip6[3] = client->ip;
        address->user_port = client->port;
    }
    return 1;
}

char _license[] SEC("license") = "Dual MIT/GPL";
