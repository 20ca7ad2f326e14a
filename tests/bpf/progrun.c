// SPDX-License-Identifier: MIT
/*
 * Runs the datapath's programs on packets, for the tests: loads the real object, fills its maps and
 * feeds frames to BPF_PROG_TEST_RUN, in the network namespace it was started in. It judges nothing.
 *
 *	progrun
 *
 * One command a line on stdin, one JSON object a line on stdout:
 *
 *	remote REMOTE GAME_SERVER_IP SLOT MODE FLAGS [KEY]
 *	                                                 put a row into `remotes`
 *	source REMOTE SOURCE GAME_SERVER_IP SLOT MODE FLAGS [KEY]
 *	                                                 put a row into `sources`
 *	ports SLOT FIRST-LAST,FIRST-LAST,...             put a row into `server_ports`
 *	client ADDRESS LENGTH                            put a prefix into `exempt_clients`
 *	clear                                            remove all rows, zero all counters
 *	alive ON                                         be an agent (1), or none (0)
 *	uplink INTERFACE GATEWAY PREFIX,PREFIX,...       say that these are all its routes but the
 *	                                                 default one, by that gateway (0.0.0.0: none)
 *	forward ON                                       let jumps lead somewhere (1) or nowhere (0)
 *	run PROGRAM INTERFACE GSO_SEGS GSO_SIZE HEX      run PROGRAM on a frame
 *	attach PROGRAM INTERFACE                         put PROGRAM on its clsact egress
 *	tag VLAN INTERFACE                               tag what leaves there, before PROGRAM sees it
 *	ip HEX                                           give this text to "ip -batch -"
 *	sysctl PATH VALUE                                write to a file below /proc/sys
 *	counters                                         report counters, nothing else
 *	instructions                                     what the verifier processed, by program
 *
 * `run` and `counters` report what was counted since the last such report:
 *
 *	{"verdict": -1, "out": HEX, "direct": {SLOT: [PACKETS, BYTES]}, "kept": {SLOT: {REASON: N}}}
 *
 * A refusal is {"error": ERRNO}. Addresses are dotted, modes and reasons the numbers of
 * schema/maps.h.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_ether.h>
#include <linux/rtnetlink.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "agent/core/route.h"
#include "agent/kern/program.h"
#include "agent/util/cleanup.h"
#include "direct.skel.h"
#include "schema/maps.h"

#define REMOTES_MAX 1024
#define PRIORITY_TAG 1
#define PRIORITY_PROGRAM 2
#define FRAME_MAX 65536
#define PROGRAMS_MAX 8
#define LOG_SIZE 4096
#define SLOTS_MAX 64 /* that the tests use */
#define LOG_STATS 4  /* BPF_LOG_STATS of the kernel, not in its uapi */

struct runner {
	struct direct_bpf *skeleton;
	struct program_tables tables;
	int remotes, sources, server_ports, exempt_clients, counters, kept;
	int cpus;
	struct maps_direct_counters *per_cpu; /* one value of `counters`, for reading and writing */
	char logs[PROGRAMS_MAX][LOG_SIZE];    /* the verifier's, by program */
	__u32 slots;                          /* the highest in use + 1 */
	struct maps_direct_counters seen_direct[SLOTS_MAX];
	struct maps_kept_counters seen_kept[SLOTS_MAX];
};

static int program_fd(const struct runner *runner, const char *name)
{
	struct bpf_program *program = bpf_object__find_program_by_name(runner->skeleton->obj, name);

	return program ? bpf_program__fd(program) : -ENOENT;
}

/* Has the verifier say what it did: the program's info says so only since 5.16. */
static void request_stats(struct runner *runner)
{
	struct bpf_program *program = NULL;

	for (int n = 0; n < PROGRAMS_MAX; n++) {
		program = bpf_object__next_program(runner->skeleton->obj, program);
		if (!program)
			break;
		(void)bpf_program__set_log_level(program, LOG_STATS);
		(void)bpf_program__set_log_buf(program, runner->logs[n], LOG_SIZE);
	}
}

static int runner_open(struct runner *runner)
{
	runner->skeleton = direct_bpf__open();
	return runner->skeleton ? program_set_size(runner->skeleton, REMOTES_MAX) : -errno;
}

/* A second try has libbpf print what the verifier has against it. */
static int runner_load(struct runner *runner)
{
	int r = runner_open(runner);

	if (r)
		return r;
	request_stats(runner);
	if (!direct_bpf__load(runner->skeleton))
		return 0;
	direct_bpf__destroy(runner->skeleton);
	r = runner_open(runner);
	return r ?: direct_bpf__load(runner->skeleton);
}

static void runner_init(struct runner *runner)
{
	if (runner_load(runner) || program_join(runner->skeleton) ||
		program_map_tables(runner->skeleton, &runner->tables)) {
		fprintf(stderr, "progrun: cannot load the programs: %m\n");
		exit(EXIT_FAILURE);
	}
	runner->remotes = bpf_map__fd(runner->skeleton->maps.remotes);
	runner->sources = bpf_map__fd(runner->skeleton->maps.sources);
	runner->server_ports = bpf_map__fd(runner->skeleton->maps.server_ports);
	runner->exempt_clients = bpf_map__fd(runner->skeleton->maps.exempt_clients);
	runner->counters = bpf_map__fd(runner->skeleton->maps.counters);
	runner->kept = bpf_map__fd(runner->skeleton->maps.kept);
	runner->cpus = libbpf_num_possible_cpus();
	if (runner->cpus > 0)
		runner->per_cpu = calloc(runner->cpus, sizeof(*runner->per_cpu));
	if (!runner->per_cpu)
		exit(EXIT_FAILURE);
	runner->slots = 1;
}

/* Sums over the CPUs. */
static struct maps_direct_counters read_direct(const struct runner *runner, __u32 slot)
{
	struct maps_direct_counters sum = {};

	if (bpf_map_lookup_elem(runner->counters, &slot, runner->per_cpu))
		return sum;
	for (int i = 0; i < runner->cpus; i++) {
		sum.packets += runner->per_cpu[i].packets;
		sum.bytes += runner->per_cpu[i].bytes;
	}
	return sum;
}

static void report_direct(struct runner *runner)
{
	const char *comma = "";

	printf("\"direct\":{");
	for (__u32 slot = 0; slot < runner->slots; slot++) {
		struct maps_direct_counters *seen = &runner->seen_direct[slot];
		struct maps_direct_counters now = read_direct(runner, slot);

		if (now.packets != seen->packets || now.bytes != seen->bytes) {
			printf("%s\"%u\":[%llu,%llu]", comma, slot, now.packets - seen->packets,
				now.bytes - seen->bytes);
			comma = ",";
		}
		*seen = now;
	}
	printf("}");
}

static bool report_reasons(const struct maps_kept_counters *seen,
	const struct maps_kept_counters *now, __u32 slot, const char *comma)
{
	bool any = false;

	for (int reason = 0; reason < MAPS_REASON_ROOM; reason++) {
		if (now->packets[reason] == seen->packets[reason])
			continue;
		if (!any)
			printf("%s\"%u\":{", comma, slot);
		printf("%s\"%d\":%llu", any ? "," : "", reason,
			now->packets[reason] - seen->packets[reason]);
		any = true;
	}
	if (any)
		printf("}");
	return any;
}

static void report_kept(struct runner *runner)
{
	const char *comma = "";

	printf("\"kept\":{");
	for (__u32 slot = 0; slot < runner->slots; slot++) {
		struct maps_kept_counters now = {};

		(void)bpf_map_lookup_elem(runner->kept, &slot, &now);
		if (report_reasons(&runner->seen_kept[slot], &now, slot, comma))
			comma = ",";
		runner->seen_kept[slot] = now;
	}
	printf("}");
}

static void report_counters(struct runner *runner)
{
	report_direct(runner);
	printf(",");
	report_kept(runner);
}

static void report_result(int r)
{
	if (r)
		printf("{\"error\":%d}\n", -r);
	else
		printf("{}\n");
}

static void delete_all(int fd, void *key)
{
	while (!bpf_map_get_next_key(fd, NULL, key))
		if (bpf_map_delete_elem(fd, key))
			break;
}

static int do_clear(struct runner *runner)
{
	const struct rows no_rows = {};
	struct maps_kept_counters zero_kept = {};
	struct maps_source_key key; /* the largest */

	memset(runner->per_cpu, 0, runner->cpus * sizeof(*runner->per_cpu));
	front_sync(&runner->tables.front, &no_rows);
	memset(runner->tables.uplinks, 0, MAPS_UPLINKS * sizeof(struct maps_uplink));
	delete_all(runner->remotes, &key);
	delete_all(runner->sources, &key);
	delete_all(runner->server_ports, &key);
	delete_all(runner->exempt_clients, &key);
	for (__u32 slot = 0; slot < runner->slots; slot++) {
		(void)bpf_map_update_elem(runner->counters, &slot, runner->per_cpu, BPF_ANY);
		(void)bpf_map_update_elem(runner->kept, &slot, &zero_kept, BPF_ANY);
	}
	memset(runner->seen_direct, 0, sizeof(runner->seen_direct));
	memset(runner->seen_kept, 0, sizeof(runner->seen_kept));
	runner->slots = 1;
	return 0;
}

static int use_slot(struct runner *runner, const char *arg, __u32 *ret_slot)
{
	unsigned long slot = strtoul(arg, NULL, 0);

	if (slot >= SLOTS_MAX)
		return -ERANGE;
	if (slot >= runner->slots)
		runner->slots = slot + 1;
	*ret_slot = slot;
	return 0;
}

static int do_remote(struct runner *runner, char **argv)
{
	struct row row = {
		.remote.be = inet_addr(argv[0]),
		.entry.game_server_ip = inet_addr(argv[1]),
		.entry.mode = atoi(argv[3]),
		.entry.flags = atoi(argv[4]),
		.entry.key = argv[5] ? inet_addr(argv[5]) : 0,
	};
	int r = use_slot(runner, argv[2], &row.entry.slot);

	front_remove(&runner->tables.front, row.remote);
	if (!r)
		r = bpf_map_update_elem(runner->remotes, &row.remote.be, &row.entry, BPF_ANY);
	if (!r)
		front_put(&runner->tables.front, &row);
	return r;
}

static int do_source(struct runner *runner, char **argv)
{
	struct maps_source_key key = {
		.remote = inet_addr(argv[0]),
		.inner_source = inet_addr(argv[1]),
	};
	struct maps_entry entry = {
		.game_server_ip = inet_addr(argv[2]),
		.mode = atoi(argv[4]),
		.flags = atoi(argv[5]),
		.key = argv[6] ? inet_addr(argv[6]) : 0,
	};
	int r = use_slot(runner, argv[3], &entry.slot);

	return r ?: bpf_map_update_elem(runner->sources, &key, &entry, BPF_ANY);
}

/* RANGES: FIRST-LAST,FIRST-LAST,... */
static int do_ports(struct runner *runner, char **argv)
{
	struct maps_server_ports ports = {};
	__u32 slot;
	int r = use_slot(runner, argv[0], &slot);

	for (char *next = argv[1]; *next && ports.n < MAPS_PORT_RANGES_MAX; ports.n++) {
		ports.ranges[ports.n].first = strtoul(next, &next, 10);
		ports.ranges[ports.n].last = strtoul(next + 1, &next, 10);
		next += *next == ',';
	}
	return r ?: bpf_map_update_elem(runner->server_ports, &slot, &ports, BPF_ANY);
}

static int do_client(struct runner *runner, char **argv)
{
	struct maps_client_key key = {
		.prefix_length = atoi(argv[1]),
		.client = inet_addr(argv[0]),
	};
	const __u8 value = 1;

	return bpf_map_update_elem(runner->exempt_clients, &key, &value, BPF_ANY);
}

static int do_uplink(struct runner *runner, char **argv)
{
	_cleanup_(routes_done) struct routes routes = { .rules_plain = true };
	const __u32 ifindex = if_nametoindex(argv[0]);
	struct maps_uplink *uplink = &runner->tables.uplinks[ifindex % MAPS_UPLINKS];
	struct route route = { .table = RT_TABLE_MAIN, .type = RTN_UNICAST };
	__u16 generation = uplink->generation + 1;
	char *save;

	route.ifindexes[route.n_ifindexes] = ifindex;
	route.gateways[route.n_ifindexes++].be = inet_addr(argv[1]);
	if (routes_add(&routes, &route))
		return -ENOMEM;
	for (char *next = strtok_r(argv[2], ",", &save); next; next = strtok_r(NULL, ",", &save))
		if (ip4_prefix_parse(next, &route.destination) || routes_add(&routes, &route))
			return -EINVAL;
	(void)uplink_make(&routes, ifindex, uplink);
	uplink->generation = generation;
	return 0;
}

/* Nowhere: as when somebody has removed the pin of the jumps and their agent has ended. */
static int do_forward(struct runner *runner, bool on)
{
	for (__u32 i = 0; !on && i < MAPS_JUMP_COUNT; i++)
		if (bpf_map_delete_elem(bpf_map__fd(runner->skeleton->maps.jumps), &i))
			return -errno;
	return on ? program_join(runner->skeleton) : 0;
}

static int attach(const char *interface, int fd, __u32 priority)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = if_nametoindex(interface),
		.attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = fd, .handle = 1, .priority = priority,
		.flags = BPF_TC_F_REPLACE);
	int r = bpf_tc_hook_create(&hook);

	if (r && r != -EEXIST)
		return r;
	return bpf_tc_attach(&hook, &opts);
}

/*
 * Puts a VLAN tag into the metadata of every packet, where VLAN devices put it, on kernels that
 * have none. VLAN 0 takes the tagger away again.
 */
static int do_tag(char **argv)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = htons(ETH_P_8021Q) },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = atoi(argv[0]) },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_skb_vlan_push },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K,
			.dst_reg = 0,
			.imm = -1 /* TC_ACT_UNSPEC */ },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = if_nametoindex(argv[1]),
		.attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = PRIORITY_TAG);
	int fd, r;

	if (!atoi(argv[0]))
		return bpf_tc_detach(&hook, &opts);
	fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "tag", "GPL", insns,
		sizeof(insns) / sizeof(insns[0]), NULL);
	if (fd < 0)
		return fd;
	r = attach(argv[1], fd, PRIORITY_TAG);
	(void)close(fd);
	return r;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t parse_hex(const char *hex, __u8 *ret_data)
{
	size_t n = 0;

	for (; n < FRAME_MAX && hex_digit(hex[0]) >= 0 && hex_digit(hex[1]) >= 0; hex += 2)
		ret_data[n++] = hex_digit(hex[0]) << 4 | hex_digit(hex[1]);
	return n;
}

static void print_hex(const __u8 *data, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	static char text[2 * FRAME_MAX + 1];

	for (size_t i = 0; i < size; i++) {
		text[2 * i] = digits[data[i] >> 4];
		text[2 * i + 1] = digits[data[i] & 15];
	}
	text[2 * size] = 0;
	fputs(text, stdout);
}

/* The kernel wants every other field of the context to be 0. */
static void do_run(struct runner *runner, char **argv)
{
	static __u8 in[FRAME_MAX], out[FRAME_MAX];
	struct __sk_buff context = {
		.ifindex = if_nametoindex(argv[1]),
		.gso_segs = atoi(argv[2]),
		.gso_size = atoi(argv[3]),
	};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in, .data_out = out,
		.data_size_out = sizeof(out), .ctx_in = &context, .ctx_size_in = sizeof(context));
	int r;

	opts.data_size_in = parse_hex(argv[4], in);
	r = bpf_prog_test_run_opts(program_fd(runner, argv[0]), &opts);
	if (r) {
		report_result(r);
		return;
	}
	printf("{\"verdict\":%d,\"out\":\"", (int)opts.retval);
	print_hex(out, opts.data_size_out);
	printf("\",");
	report_counters(runner);
	printf("}\n");
}

static void do_counters(struct runner *runner)
{
	printf("{");
	report_counters(runner);
	printf("}\n");
}

static void do_instructions(const struct runner *runner)
{
	struct bpf_program *program = NULL;
	const char *comma = "";

	printf("{");
	for (int n = 0; n < PROGRAMS_MAX; n++) {
		const char *found = strstr(runner->logs[n], "processed ");
		unsigned int processed = 0;

		program = bpf_object__next_program(runner->skeleton->obj, program);
		if (!program)
			break;
		if (found)
			(void)sscanf(found, "processed %u insns", &processed);
		printf("%s\"%s\":%u", comma, bpf_program__name(program), processed);
		comma = ",";
	}
	printf("}\n");
}

/* What the tests do to the namespace by themselves, for transcripts: tests/bpf/transcript.py. */
static int do_ip(const char *hex)
{
	static __u8 text[FRAME_MAX];
	size_t size = parse_hex(hex, text);
	FILE *pipe = popen("ip -batch -", "w");

	if (!pipe)
		return -errno;
	(void)fwrite(text, 1, size, pipe);
	return pclose(pipe) == 0 ? 0 : -EINVAL;
}

static int do_sysctl(char **argv)
{
	char path[256];
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/sys/%s", argv[0]);
	file = fopen(path, "w");
	if (!file)
		return -errno;
	fputs(argv[1], file);
	return fclose(file) == 0 ? 0 : -errno;
}

static bool dispatch(struct runner *runner, int argc, char **argv)
{
	const char *verb = argv[0];

	if (!strcmp(verb, "run") && argc == 6)
		do_run(runner, argv + 1);
	else if (!strcmp(verb, "remote") && (argc == 6 || argc == 7))
		report_result(do_remote(runner, argv + 1));
	else if (!strcmp(verb, "source") && (argc == 7 || argc == 8))
		report_result(do_source(runner, argv + 1));
	else if (!strcmp(verb, "ports") && argc == 3)
		report_result(do_ports(runner, argv + 1));
	else if (!strcmp(verb, "client") && argc == 3)
		report_result(do_client(runner, argv + 1));
	else if (!strcmp(verb, "alive") && argc == 2)
		report_result(program_set_alive(runner->skeleton, atoi(argv[1])));
	else if (!strcmp(verb, "uplink") && argc == 4)
		report_result(do_uplink(runner, argv + 1));
	else if (!strcmp(verb, "forward") && argc == 2)
		report_result(do_forward(runner, atoi(argv[1])));
	else if (!strcmp(verb, "clear") && argc == 1)
		report_result(do_clear(runner));
	else if (!strcmp(verb, "attach") && argc == 3)
		report_result(attach(argv[2], program_fd(runner, argv[1]), PRIORITY_PROGRAM));
	else if (!strcmp(verb, "tag") && argc == 3)
		report_result(do_tag(argv + 1));
	else if (!strcmp(verb, "ip") && argc == 2)
		report_result(do_ip(argv[1]));
	else if (!strcmp(verb, "sysctl") && argc == 3)
		report_result(do_sysctl(argv + 1));
	else if (!strcmp(verb, "counters") && argc == 1)
		do_counters(runner);
	else if (!strcmp(verb, "instructions") && argc == 1)
		do_instructions(runner);
	else
		return false;
	return true;
}

int main(void)
{
	static struct runner runner;
	char *line = NULL;
	size_t size = 0;

	runner_init(&runner);
	while (getline(&line, &size, stdin) > 0) {
		char *words[8] = {}, *save = NULL;
		int n = 0;

		for (char *word = strtok_r(line, " \n", &save); word && n < 8;
			word = strtok_r(NULL, " \n", &save))
			words[n++] = word;
		if (!n || !dispatch(&runner, n, words)) {
			fprintf(stderr, "progrun: bad command\n");
			return EXIT_FAILURE;
		}
		fflush(stdout);
	}
	free(line);
	free(runner.per_cpu);
	direct_bpf__destroy(runner.skeleton);
	return EXIT_SUCCESS;
}
