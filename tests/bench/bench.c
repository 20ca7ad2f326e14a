// SPDX-License-Identifier: MIT
/*
 * What the datapath costs, against the bounds set for it. A benchmark, not a test: the exit status
 * says whether everything could be measured, not whether the figures are good.
 *
 *	bench [--json] [--rounds N] BASELINE_OBJECT
 *
 * A veth pair between two network namespaces of its own. IPIP frames leave by a packet socket, their
 * MAC is nobody's, so the far end drops them early. TCP is a real connection. The kernel's BPF run
 * statistics give ns a packet of a program, the clock that of the sender. Short rounds, all cases in
 * turn, medians: what disturbs one case disturbs all of them.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/udp.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "agent/core/front.h"
#include "agent/kern/program.h"
#include "direct.skel.h"
#include "schema/maps.h"

#define TCX_EGRESS 47 /* BPF_TCX_EGRESS, since 6.6; not in Debian 12's headers */

#define BATCH 64
#define ROUND_PACKETS 2048
#define PATH_PACKETS 256 /* well inside a time slice: who is preempted more shall not look slow */
#define ROUND_TCP_BYTES (16U << 20)
#define TCP_PORT 5001
#define REMOTES_MANY 65536
#define ROUNDS_DEFAULT 100
/*
 * Where in memory the kernel happens to put a program's code moves its cost by 15 % either way; so
 * the datapath is loaded more than once, and rounds take turns.
 */
#define PLACES 5
#define ROUNDS_MAX 10000
#define SKIPPED 77

#define ADDR(a, b, c, d) ((__u32)(a) << 24 | (b) << 16 | (c) << 8 | (d))
#define FIRST_REMOTE ADDR(10, 64, 0, 0)
#define GAME_SERVER_IP ADDR(203, 0, 113, 1)
#define INNER_SOURCE ADDR(172, 31, 0, 1)
#define CLIENT ADDR(192, 0, 2, 1)

enum object {
	BASELINE,
	ONE,    /* the datapath with one remote */
	MANY,   /* with REMOTES_MANY */
	SHARED, /* model C: a shared remote, the server has the public address */
	ALONE,  /* with one remote, and no agent */
	OBJECT_COUNT,
};

enum traffic { IPIP_ONE, IPIP_FEW, IPIP_MANY, IPIP_PUBLIC, TCP_PLAIN };

enum run {
	NOP,
	STRIP,
	DIRECT,
	DIRECT_FULL_ONE,
	DIRECT_FULL_FEW,
	DIRECT_MANY,
	DIRECT_C,
	DIRECT_ALONE,
	TCP_NOP,
	TCP_DIRECT,
	TCP_WRITE,
	PART_PARSE,
	PART_LOOKUP,
	PART_CHECKSUM,
	PART_FIB,
	PART_FIB_MAIN,
	PART_FIB_NO_NEIGHBOUR,
	PART_STORE,
	PART_COUNTER,
	RUN_COUNT,
};

enum path {
	PATH_NONE,
	PATH_NOP,
	PATH_STRIP,
	PATH_DIRECT,
	GAME_NONE,
	GAME_NOP,
	GAME_STRIP,
	GAME_DIRECT,
	PATH_COUNT,
};

static const struct {
	const char *name, *program;
	enum object object;
	enum traffic traffic;
	enum run base;
} runs[RUN_COUNT] = {
	[NOP] = { "nop", "nop", BASELINE, IPIP_ONE, NOP },
	[STRIP] = { "strip", "strip", BASELINE, IPIP_ONE, NOP },
	[DIRECT] = { "direct-udp", "direct", ONE, IPIP_ONE, NOP },
	/* What the size of the map costs, without the cache misses of traffic to all of it. */
	[DIRECT_FULL_ONE] = { "direct-udp-1-of-65536", "direct", MANY, IPIP_ONE, NOP },
	[DIRECT_FULL_FEW] = { "direct-udp-256-of-65536", "direct", MANY, IPIP_FEW, NOP },
	[DIRECT_MANY] = { "direct-udp-65536-remotes", "direct", MANY, IPIP_MANY, NOP },
	[DIRECT_C] = { "direct-udp-model-c", "direct", SHARED, IPIP_PUBLIC, NOP },
	[DIRECT_ALONE] = { "direct-udp-no-agent", "direct", ALONE, IPIP_ONE, NOP },
	[TCP_NOP] = { "tcp-nop", "nop", BASELINE, TCP_PLAIN, TCP_NOP },
	[TCP_DIRECT] = { "tcp-direct", "direct", ONE, TCP_PLAIN, TCP_NOP },
	[TCP_WRITE] = { "tcp-direct-write", "direct_write", BASELINE, TCP_PLAIN, TCP_NOP },
	[PART_PARSE] = { "part-parse", "part_parse", BASELINE, IPIP_ONE, NOP },
	[PART_LOOKUP] = { "part-lookup", "part_lookup", BASELINE, IPIP_ONE, NOP },
	[PART_CHECKSUM] = { "part-checksum", "part_checksum", BASELINE, IPIP_ONE, NOP },
	[PART_FIB] = { "part-fib", "part_fib", BASELINE, IPIP_ONE, NOP },
	[PART_FIB_MAIN] = { "part-fib-main-table", "part_fib_main", BASELINE, IPIP_ONE, NOP },
	[PART_FIB_NO_NEIGHBOUR] = { "part-fib-no-neighbour", "part_fib_no_neighbour", BASELINE,
		IPIP_ONE, NOP },
	[PART_STORE] = { "part-store", "part_store", BASELINE, IPIP_ONE, NOP },
	[PART_COUNTER] = { "part-counter", "part_counter", BASELINE, IPIP_ONE, NOP },
};

static const struct {
	const char *name;
	enum run run; /* RUN_COUNT: no program */
	bool game;    /* from a game server's namespace, through the host */
} paths[PATH_COUNT] = {
	[PATH_NONE] = { "send-no-program", RUN_COUNT, false },
	[PATH_NOP] = { "send-nop", NOP, false },
	[PATH_STRIP] = { "send-strip", STRIP, false },
	[PATH_DIRECT] = { "send-direct", DIRECT, false },
	[GAME_NONE] = { "game-no-program", RUN_COUNT, true },
	[GAME_NOP] = { "game-nop", NOP, true },
	[GAME_STRIP] = { "game-strip", STRIP, true },
	[GAME_DIRECT] = { "game-direct", DIRECT, true },
};

struct frame {
	struct ethhdr eth;
	struct iphdr outer, inner;
	struct udphdr udp;
	__u8 payload[64];
} __attribute__((packed));

struct result {
	double ns[RUN_COUNT];
	double net[RUN_COUNT]; /* less the base, round by round: what drifts, drifts for both */
	double path_ns[PATH_COUNT];
};

struct bench {
	struct bpf_object *objects[OBJECT_COUNT]; /* each of a skeleton, but for BASELINE */
	struct program_tables tables[OBJECT_COUNT];
	struct bpf_object *places[PLACES]; /* of ONE */
	int rounds, ifindex;
	int packet, tcp, game; /* sockets; `game` is in a namespace behind the host */
	struct frame frames[BATCH];
	struct iovec iovs[BATCH];
	struct mmsghdr messages[BATCH];
	struct iovec game_iovs[BATCH];
	struct mmsghdr game_messages[BATCH];
	__u32 random;
	double samples[RUN_COUNT][ROUNDS_MAX];
	double path_samples[PATH_COUNT][ROUNDS_MAX];
};

static void die(const char *what)
{
	fprintf(stderr, "bench: %s: %m\n", what);
	exit(EXIT_FAILURE);
}

static void check(bool ok, const char *what)
{
	if (!ok)
		die(what);
}

static void shell(const char *command)
{
	errno = 0;
	check(!system(command), command);
}

static int enter_new_namespace(void)
{
	int fd;

	check(!unshare(CLONE_NEWNET), "unshare");
	fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	check(fd >= 0, "/proc/self/ns/net");
	return fd;
}

/* Reads away whatever comes; lives as long as the connection. */
static void start_sink(int listener)
{
	static char buffer[1 << 20];
	pid_t pid = fork();
	int fd;

	check(pid >= 0, "fork");
	if (pid)
		return;
	fd = accept(listener, NULL, NULL);
	while (fd >= 0 && read(fd, buffer, sizeof(buffer)) > 0)
		;
	_exit(EXIT_SUCCESS);
}

static void connect_tcp(struct bench *bench, int near_ns, int far_ns)
{
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(TCP_PORT),
		.sin_addr.s_addr = htonl(ADDR(10, 9, 0, 2)),
	};
	int listener;

	check(!setns(far_ns, CLONE_NEWNET), "setns");
	shell("ip addr add 10.9.0.2/24 dev bench1 && ip link set bench1 addrgenmode none up");
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(!bind(listener, (const void *)&address, sizeof(address)), "bind");
	check(!listen(listener, 1), "listen");
	start_sink(listener);
	(void)close(listener);

	check(!setns(near_ns, CLONE_NEWNET), "setns");
	bench->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(!connect(bench->tcp, (const void *)&address, sizeof(address)), "connect");
}

static void add_veth(const char *near, const char *far, int far_ns)
{
	char command[256];

	(void)snprintf(command, sizeof(command),
		"ip link add %s type veth peer name %s netns /proc/%d/fd/%d && "
		"ip link set %s addrgenmode none",
		near, far, getpid(), far_ns, near);
	shell(command);
}

/* A game server's namespace: its packets are routed to the host, and forwarded there. */
static void setup_game(struct bench *bench, int near_ns, int game_ns)
{
	add_veth("host1", "game1", game_ns);
	shell("ip addr add 10.8.0.1/24 dev host1 && ip link set host1 up");
	check(!setns(game_ns, CLONE_NEWNET), "setns");
	shell("ip addr add 10.8.0.2/24 dev game1 && ip link set game1 addrgenmode none up &&"
	      " ip route add default via 10.8.0.1");
	bench->game = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	check(bench->game >= 0, "raw socket");
	check(!setns(near_ns, CLONE_NEWNET), "setns");
}

static void setup_network(struct bench *bench)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET };
	int game_ns = enter_new_namespace();
	int far_ns = enter_new_namespace(), near_ns = enter_new_namespace();

	add_veth("bench0", "bench1", far_ns);
	shell("ip link set bench0 up && ip addr add 10.9.0.1/24 dev bench0 &&"
	      " ip neigh add 10.9.0.99 lladdr 02:00:00:00:00:99 dev bench0 nud permanent &&"
	      " ip route add default via 10.9.0.99 && echo 1 > /proc/sys/net/ipv4/ip_forward");
	connect_tcp(bench, near_ns, far_ns);
	setup_game(bench, near_ns, game_ns);

	bench->ifindex = if_nametoindex("bench0");
	address.sll_ifindex = bench->ifindex;
	bench->packet = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	check(!bind(bench->packet, (const void *)&address, sizeof(address)), "packet socket");
}

static void setup_frames(struct bench *bench)
{
	static const struct sockaddr_in remote = { .sin_family = AF_INET,
		.sin_addr.s_addr = __builtin_bswap32(FIRST_REMOTE) };
	const __u32 total = sizeof(struct frame) - ETH_HLEN;
	const struct frame frame = {
		.eth = { { 2, 0, 0, 0, 0, 0x99 }, { 2, 0, 0, 0, 0, 1 }, htons(ETH_P_IP) },
		.outer = { .version = 4,
			.ihl = 5,
			.ttl = 64,
			.protocol = IPPROTO_IPIP,
			.tot_len = htons(total) }, /* a raw socket puts its source in */
		.inner = { .version = 4,
			.ihl = 5,
			.ttl = 64,
			.protocol = IPPROTO_UDP,
			.tot_len = htons(total - sizeof(struct iphdr)),
			.daddr = htonl(CLIENT) },
		.udp = { htons(27015), htons(27005), htons(sizeof(struct udphdr) + 64), 0x1234 },
	};

	for (int i = 0; i < BATCH; i++) {
		bench->frames[i] = frame;
		bench->iovs[i] = (struct iovec){ &bench->frames[i], sizeof(frame) };
		bench->messages[i].msg_hdr.msg_iov = &bench->iovs[i];
		bench->messages[i].msg_hdr.msg_iovlen = 1;
		bench->game_iovs[i] = (struct iovec){ &bench->frames[i].outer, total };
		bench->game_messages[i].msg_hdr = (struct msghdr){ .msg_name = (void *)&remote,
			.msg_namelen = sizeof(remote),
			.msg_iov = &bench->game_iovs[i],
			.msg_iovlen = 1 };
	}
}

/* Which of REMOTES_MANY a packet goes to; one costs the same to choose as many. */
static __u32 choose_remote(struct bench *bench, enum traffic traffic)
{
	static const __u32 masks[] = {
		[IPIP_FEW] = 0xff, [IPIP_MANY] = REMOTES_MANY - 1, [TCP_PLAIN] = 0
	};

	bench->random = bench->random * 1664525 + 1013904223;
	/* Odd, so that a few are spread over the caches' sets like any others. */
	return (bench->random >> 8 & masks[traffic]) * 257 % REMOTES_MANY;
}

static void address_frames(struct bench *bench, enum traffic traffic)
{
	const __u32 source = traffic == IPIP_PUBLIC ? GAME_SERVER_IP : INNER_SOURCE;

	for (int i = 0; i < BATCH; i++) {
		bench->frames[i].outer.daddr = htonl(FIRST_REMOTE + choose_remote(bench, traffic));
		bench->frames[i].inner.saddr = htonl(source);
	}
}

static void send_ipip(struct bench *bench, enum traffic traffic, int packets)
{
	for (int sent = 0; sent < packets; sent += BATCH) {
		address_frames(bench, traffic);
		check(sendmmsg(bench->packet, bench->messages, BATCH, 0) == BATCH, "sendmmsg");
	}
}

static void send_on_path(struct bench *bench, enum path path, int packets)
{
	if (!paths[path].game) {
		send_ipip(bench, IPIP_ONE, packets);
		return;
	}
	for (int sent = 0; sent < packets; sent += BATCH) {
		address_frames(bench, IPIP_ONE);
		check(sendmmsg(bench->game, bench->game_messages, BATCH, 0) == BATCH, "sendmmsg");
	}
}

static void send_tcp(struct bench *bench)
{
	static const char data[1 << 16];

	for (__u32 sent = 0; sent < ROUND_TCP_BYTES; sent += sizeof(data))
		check(send(bench->tcp, data, sizeof(data), MSG_NOSIGNAL) > 0, "send");
}

static int map_fd(struct bpf_object *object, const char *name)
{
	int fd = bpf_object__find_map_fd_by_name(object, name);

	check(fd >= 0, name);
	return fd;
}

static struct bpf_object *load_baseline(const char *path)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);

	check(object && !bpf_object__load(object), path);
	return object;
}

static void load(struct bench *bench, enum object object, __u32 remotes)
{
	struct direct_bpf *skeleton = direct_bpf__open();

	check(skeleton, "open");
	check(!program_set_size(skeleton, remotes), "set size");
	check(!direct_bpf__load(skeleton), "load");
	check(!program_join(skeleton), "join");
	check(!program_map_tables(skeleton, &bench->tables[object]), "map tables");
	check(!program_set_alive(skeleton, object != ALONE), "set alive");
	bench->objects[object] = skeleton->obj;
}

/* No route but the default one; the gateway is learned from the first packet. */
static void fill_uplink(struct bench *bench, enum object object)
{
	bench->tables[object].uplinks[bench->ifindex % MAPS_UPLINKS] =
		(struct maps_uplink){ .ifindex = bench->ifindex, .generation = 1, .is_default = 1 };
}

static void fill(
	struct bench *bench, enum object object, const char *map, __u32 remotes, __u16 flags)
{
	int fd = map_fd(bench->objects[object], map);

	for (__u32 i = 0; i < remotes; i++) {
		struct row row = { .remote.be = htonl(FIRST_REMOTE + i),
			.entry = { .slot = i + 1, .flags = flags } };

		if (!(flags & MAPS_FLAG_SHARED))
			row.entry.game_server_ip = htonl(GAME_SERVER_IP);
		check(!bpf_map_update_elem(fd, &row.remote.be, &row.entry, BPF_ANY), map);
		front_put(&bench->tables[object].front, &row);
	}
}

static void load_objects(struct bench *bench, const char *baseline)
{
	const struct maps_source_key key = { htonl(FIRST_REMOTE), htonl(GAME_SERVER_IP) };
	const struct maps_entry entry = { .game_server_ip = htonl(GAME_SERVER_IP), .slot = 1 };

	bench->objects[BASELINE] = load_baseline(baseline);
	fill(bench, BASELINE, "bench_remotes", 1, 0);
	for (int i = 0; i < PLACES; i++) {
		load(bench, ONE, MAPS_REMOTES_MAX_DEFAULT);
		fill(bench, ONE, "remotes", 1, 0);
		fill_uplink(bench, ONE);
		bench->places[i] = bench->objects[ONE];
	}
	load(bench, MANY, REMOTES_MANY);
	fill(bench, MANY, "remotes", REMOTES_MANY, 0);
	fill_uplink(bench, MANY);
	load(bench, ALONE, MAPS_REMOTES_MAX_DEFAULT);
	fill(bench, ALONE, "remotes", 1, 0);
	load(bench, SHARED, MAPS_REMOTES_MAX_DEFAULT);
	fill(bench, SHARED, "remotes", 1, MAPS_FLAG_SHARED);
	fill_uplink(bench, SHARED);
	check(!bpf_map_update_elem(map_fd(bench->objects[SHARED], "sources"), &key, &entry, 0),
		"sources");
}

static int program_fd(const struct bench *bench, enum run run)
{
	struct bpf_program *program = bpf_object__find_program_by_name(
		bench->objects[runs[run].object], runs[run].program);

	check(program, runs[run].program);
	return bpf_program__fd(program);
}

/* The link goes when its fd does. */
static int attach(const struct bench *bench, int program)
{
	int link = bpf_link_create(program, bench->ifindex, (enum bpf_attach_type)TCX_EGRESS, NULL);

	check(link >= 0, "attach by TCX (since Linux 6.6)");
	return link;
}

static struct bpf_prog_info program_info(int fd)
{
	struct bpf_prog_info info = {};
	__u32 size = sizeof(info);

	check(!bpf_obj_get_info_by_fd(fd, &info, &size), "program info");
	return info;
}

static double measure_run(struct bench *bench, enum run run)
{
	int fd = program_fd(bench, run), link = attach(bench, fd);
	struct bpf_prog_info before, after;

	if (runs[run].traffic != TCP_PLAIN)
		send_ipip(bench, runs[run].traffic, 4 * BATCH);
	before = program_info(fd);
	if (runs[run].traffic == TCP_PLAIN)
		send_tcp(bench);
	else
		send_ipip(bench, runs[run].traffic, ROUND_PACKETS);
	after = program_info(fd);
	(void)close(link);

	errno = ENODATA;
	check(after.run_cnt - before.run_cnt >=
			(runs[run].traffic == TCP_PLAIN ? 100 : ROUND_PACKETS),
		runs[run].name);
	return (double)(after.run_time_ns - before.run_time_ns) / (after.run_cnt - before.run_cnt);
}

static double now_ns(void)
{
	struct timespec now;

	check(!clock_gettime(CLOCK_MONOTONIC, &now), "clock");
	return now.tv_sec * 1e9 + now.tv_nsec;
}

static __u64 direct_packets(const struct bench *bench, enum object object)
{
	const int fd = map_fd(bench->objects[object], "counters");
	const int cpus = libbpf_num_possible_cpus();
	struct maps_direct_counters *rows = calloc(cpus > 0 ? cpus : 1, sizeof(*rows));
	const __u32 slot = 1;
	__u64 packets = 0;

	check(rows && !bpf_map_lookup_elem(fd, &slot, rows), "counters");
	for (int cpu = 0; cpu < cpus; cpu++)
		packets += rows[cpu].packets;
	free(rows);
	return packets;
}

static double measure_path(struct bench *bench, enum path path)
{
	__u64 direct = direct_packets(bench, ONE);
	int link = -1;
	double start;

	if (paths[path].run != RUN_COUNT)
		link = attach(bench, program_fd(bench, paths[path].run));
	(void)sched_yield();
	send_on_path(bench, path, 2 * BATCH);
	start = now_ns();
	send_on_path(bench, path, PATH_PACKETS);
	start = now_ns() - start;
	if (link >= 0)
		(void)close(link);
	errno = ENODATA;
	check(paths[path].run != DIRECT ||
			direct_packets(bench, ONE) - direct == 2 * BATCH + PATH_PACKETS,
		paths[path].name);
	return start / PATH_PACKETS;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, int n)
{
	qsort(values, n, sizeof(*values), compare);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static bool none_kept(int fd, __u32 slots)
{
	struct maps_kept_counters kept;

	for (__u32 slot = 0; slot < slots && !bpf_map_lookup_elem(fd, &slot, &kept); slot++)
		for (int reason = 0; reason < MAPS_REASON_ROOM; reason++)
			if (kept.packets[reason])
				return false;
	return true;
}

/* Packets that stayed on the tunnel would make the datapath look cheap. */
static void check_all_direct(const struct bench *bench)
{
	for (int object = ONE; object < OBJECT_COUNT; object++) {
		bool direct = direct_packets(bench, object) > 0;
		bool none = none_kept(map_fd(bench->objects[object], "kept"), REMOTES_MANY + 1);

		errno = ENODATA;
		check(direct && none, "packets stayed on the tunnel");
	}
}

static double median_net(const struct bench *bench, enum run run)
{
	static double differences[ROUNDS_MAX];

	for (int round = 0; round < bench->rounds; round++)
		differences[round] =
			bench->samples[run][round] - bench->samples[runs[run].base][round];
	return median(differences, bench->rounds);
}

static void measure(struct bench *bench, struct result *ret_result)
{
	int stats = bpf_enable_stats(BPF_STATS_RUN_TIME);

	check(stats >= 0, "BPF run statistics");
	for (int round = 0; round < bench->rounds; round++) {
		bench->objects[ONE] = bench->places[round % PLACES];
		for (int run = 0; run < RUN_COUNT; run++)
			bench->samples[run][round] = measure_run(bench, run);
	}
	(void)close(stats); /* they cost the sender time */
	for (int round = 0; round < bench->rounds; round++) {
		bench->objects[ONE] = bench->places[round % PLACES];
		for (int path = 0; path < PATH_COUNT; path++)
			bench->path_samples[path][round] = measure_path(bench, path);
	}
	check_all_direct(bench);

	for (int run = 0; run < RUN_COUNT; run++)
		ret_result->net[run] = median_net(bench, run);
	for (int run = 0; run < RUN_COUNT; run++) /* sorts the samples */
		ret_result->ns[run] = median(bench->samples[run], bench->rounds);
	for (int path = 0; path < PATH_COUNT; path++)
		ret_result->path_ns[path] = median(bench->path_samples[path], bench->rounds);
}

#define BOUNDS 5

struct bound {
	const char *name;
	double value, limit;
};

static void judge(const struct result *result, struct bound *ret_bounds)
{
	const double strip = result->net[STRIP], direct = result->net[DIRECT];
	const struct bound bounds[BOUNDS] = {
		{ "net(direct-udp) / net(strip)", direct / strip, 1.7 },
		{ "net(tcp-direct) / net(strip)", result->net[TCP_DIRECT] / strip, 0.15 },
		{ "net(65536 remotes) / net(1)", result->net[DIRECT_MANY] / direct, 1.25 },
		{ "send-direct / send-no-program",
			result->path_ns[PATH_DIRECT] / result->path_ns[PATH_NONE], 1.12 },
		{ "game-direct / game-no-program",
			result->path_ns[GAME_DIRECT] / result->path_ns[GAME_NONE], 1.12 },
	};

	errno = ERANGE;
	check(strip > 0 && direct > 0, "strip and direct must cost more than nop");
	memcpy(ret_bounds, bounds, sizeof(bounds));
}

static enum path path_base(enum path path)
{
	return paths[path].game ? GAME_NONE : PATH_NONE;
}

static void print_table(const struct result *result, const struct bound *bounds)
{
	printf("%-32s %8s %8s %10s\n", "ns a packet", "total", "net", "net/strip");
	for (int run = 0; run < RUN_COUNT; run++)
		printf("%-32s %8.1f %8.1f %10.2f\n", runs[run].name, result->ns[run],
			result->net[run], result->net[run] / result->net[STRIP]);
	printf("\n%-32s %8s %8s %10s\n", "ns a packet of the sender", "total", "more", "ratio");
	for (int path = 0; path < PATH_COUNT; path++)
		printf("%-32s %8.1f %8.1f %10.3f\n", paths[path].name, result->path_ns[path],
			result->path_ns[path] - result->path_ns[path_base(path)],
			result->path_ns[path] / result->path_ns[path_base(path)]);
	printf("\n%-32s %8s %8s\n", "bound", "is", "at most");
	for (int i = 0; i < BOUNDS; i++)
		printf("%-32s %8.3f %8.2f  %s\n", bounds[i].name, bounds[i].value, bounds[i].limit,
			bounds[i].value <= bounds[i].limit ? "reached" : "not reached");
}

static void print_json(const struct bench *bench, const struct result *result,
	const struct bound *bounds, const char *release)
{
	printf("{\"kernel\":\"%s\",\"cpus\":%ld,\"rounds\":%d,\"programs\":{", release,
		sysconf(_SC_NPROCESSORS_ONLN), bench->rounds);
	for (int run = 0; run < RUN_COUNT; run++)
		printf("%s\"%s\":{\"ns\":%.2f,\"net_ns\":%.2f}", run ? "," : "", runs[run].name,
			result->ns[run], result->net[run]);
	printf("},\"sender_ns\":{");
	for (int path = 0; path < PATH_COUNT; path++)
		printf("%s\"%s\":%.2f", path ? "," : "", paths[path].name, result->path_ns[path]);
	printf("},\"bounds\":[");
	for (int i = 0; i < BOUNDS; i++)
		printf("%s{\"name\":\"%s\",\"value\":%.4f,\"limit\":%.2f,\"reached\":%s}",
			i ? "," : "", bounds[i].name, bounds[i].value, bounds[i].limit,
			bounds[i].value <= bounds[i].limit ? "true" : "false");
	printf("]}\n");
}

/* One CPU for the sender, so that it always meets its own caches. */
static void pin(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(sched_getcpu(), &cpus);
	check(!sched_setaffinity(0, sizeof(cpus), &cpus), "sched_setaffinity");
}

int main(int argc, char **argv)
{
	static struct bench bench = { .rounds = ROUNDS_DEFAULT };
	struct bound bounds[BOUNDS];
	struct result result;
	struct utsname host;
	bool json = false;
	int arg = 1;

	for (; arg < argc && argv[arg][0] == '-'; arg++) {
		if (!strcmp(argv[arg], "--json"))
			json = true;
		else if (!strcmp(argv[arg], "--rounds") && arg + 1 < argc)
			bench.rounds = atoi(argv[++arg]);
		else
			break;
	}
	if (argc - arg != 1 || bench.rounds < 1 || bench.rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench [--json] [--rounds N] BASELINE_OBJECT\n");
		return EXIT_FAILURE;
	}
	if (geteuid()) {
		fprintf(stderr, "bench: needs root\n");
		return SKIPPED;
	}
	setup_network(&bench);
	load_objects(&bench, argv[arg]);
	setup_frames(&bench);
	pin();
	measure(&bench, &result);
	judge(&result, bounds);

	check(!uname(&host), "uname");
	if (json) {
		print_json(&bench, &result, bounds, host.release);
		return EXIT_SUCCESS;
	}
	printf("Linux %s, %ld CPUs, median of %d rounds\n\n", host.release,
		sysconf(_SC_NPROCESSORS_ONLN), bench.rounds);
	print_table(&result, bounds);
	return EXIT_SUCCESS;
}
