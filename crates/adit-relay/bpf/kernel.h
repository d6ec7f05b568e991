// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The part of the kernel's interface to BPF programs that ours use, laid out as in <linux/bpf.h>, where its meaning is
// written down. Building takes clang alone, and what it builds does not change with the headers of the machine.
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))
#define always_inline inline __attribute__((always_inline))

// A value that the compiler may not load later, or as part of another.
#define keep(value)                  \
    ({                               \
        typeof(value) kept = value;  \
        asm volatile("" : "+r"(kept)); \
        kept;                        \
    })

// How a map is described to the loader: in the types of a structure that holds nothing.
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name

#define AF_INET 2
#define AF_INET6 10

enum {
    BPF_MAP_TYPE_ARRAY = 2,
    BPF_MAP_TYPE_SK_STORAGE = 24,
    BPF_F_NO_PREALLOC = 1,
    BPF_F_MMAPABLE = 1 << 10,
    BPF_SK_STORAGE_GET_F_CREATE = 1,
};

enum {
    BPF_SOCK_OPS_TCP_CONNECT_CB = 3,
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB = 4,
    BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB = 5,
    BPF_SOCK_OPS_HDR_OPT_LEN_CB = 14,
    BPF_SOCK_OPS_WRITE_HDR_OPT_CB = 15,
    BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG = 1 << 6,
};

struct bpf_sock;

struct bpf_sock_ops {
    __u32 op;
    __u32 args[4];
    __u32 family;
    __u32 remote_ip4; // network byte order
    __u32 local_ip4;
    __u32 remote_ip6[4]; // network byte order
    __u32 local_ip6[4];
    __u32 remote_port;
    __u32 local_port;
    __u32 is_fullsock;
    __u32 snd_cwnd;
    __u32 srtt_us;
    __u32 bpf_sock_ops_cb_flags;
    __u32 state;
    __u32 rtt_min;
    __u32 snd_ssthresh;
    __u32 rcv_nxt;
    __u32 snd_nxt;
    __u32 snd_una;
    __u32 mss_cache;
    __u32 ecn_flags;
    __u32 rate_delivered;
    __u32 rate_interval_us;
    __u32 packets_out;
    __u32 retrans_out;
    __u32 total_retrans;
    __u32 segs_in;
    __u32 data_segs_in;
    __u32 segs_out;
    __u32 data_segs_out;
    __u32 lost_out;
    __u32 sacked_out;
    __u32 sk_txhash;
    __u64 bytes_received;
    __u64 bytes_acked;
    struct bpf_sock *sk;
    void *skb_data; // the TCP header, with its options
    void *skb_data_end;
};
_Static_assert(__builtin_offsetof(struct bpf_sock_ops, bpf_sock_ops_cb_flags) == 84, "layout");
_Static_assert(__builtin_offsetof(struct bpf_sock_ops, bytes_acked) == 176, "layout");
_Static_assert(__builtin_offsetof(struct bpf_sock_ops, skb_data_end) == 200, "layout");

struct bpf_sock_addr {
    __u32 user_family;
    __u32 user_ip4;    // network byte order
    __u32 user_ip6[4]; // network byte order
    __u32 user_port;   // network byte order
    __u32 family;
    __u32 type;
    __u32 protocol;
    __u32 msg_src_ip4;
    __u32 msg_src_ip6[4];
    struct bpf_sock *sk;
};
_Static_assert(__builtin_offsetof(struct bpf_sock_addr, user_port) == 24, "layout");
_Static_assert(__builtin_offsetof(struct bpf_sock_addr, sk) == 64, "layout");

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static __u64 (*bpf_get_socket_cookie)(void *context) = (void *)46;
static long (*bpf_sock_ops_cb_flags_set)(struct bpf_sock_ops *ops, int flags) = (void *)59;
static void *(*bpf_sk_storage_get)(void *map, struct bpf_sock *sk, void *value, __u64 flags) = (void *)107;
static long (*bpf_store_hdr_opt)(struct bpf_sock_ops *ops, const void *option, __u32 length, __u64 flags) = (void *)143;
static long (*bpf_reserve_hdr_opt)(struct bpf_sock_ops *ops, __u32 length, __u64 flags) = (void *)144;
