/* SPDX-License-Identifier: MIT */
/*
 * stats: what is counted, by row and in total. The pinned maps say it, with or without an agent; the
 * agent's status, where there is one, says whose rows they are.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/core/ip4.h"
#include "agent/core/reason.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/output.h"
#include "tools/ctl/sample.h"
#include "tools/ctl/table.h"

#define STATS_SCHEMA_VERSION 1 /* schema/ctl-stats.schema.json */

enum cell {
	CELL_REMOTE,
	CELL_SOURCE, /* left out where no remote is shared */
	CELL_TUNNEL,
	CELL_DIRECT,
	CELL_BYTES,
	CELL_DIRECT_RATE, /* rates are left out of a single round */
	CELL_BIT_RATE,
	CELL_SHADOW,
	CELL_KEPT,
	CELL_KEPT_RATE,
	CELL_REASONS,
	CELL_COUNT,
};

static const struct table_column all_columns[CELL_COUNT] = {
	[CELL_REMOTE] = { "REMOTE" },
	[CELL_SOURCE] = { "INNER SOURCE" },
	[CELL_TUNNEL] = { "TUNNEL", .drop = 4 },
	[CELL_DIRECT] = { "DIRECT", .right = true, .drop = 1 },
	[CELL_BYTES] = { "BYTES", .right = true, .drop = 2 },
	[CELL_DIRECT_RATE] = { "PKT/S", .right = true },
	[CELL_BIT_RATE] = { "BIT/S", .right = true },
	[CELL_SHADOW] = { "SHADOW", .right = true, .drop = 3 },
	[CELL_KEPT] = { "KEPT", .right = true },
	[CELL_KEPT_RATE] = { "KEPT/S", .right = true },
	[CELL_REASONS] = { "KEPT BECAUSE" },
};

/* One round, and what it is compared with. */
struct round {
	const struct ctl *ctl;
	const struct sample *before; /* NULL, or holds nothing: no rates yet */
	struct sample now;
	struct agent_view view;
	struct owners owners;
	struct ip4 remote; /* only rows of this one; none: all */
	bool wanted[CELL_COUNT];
};

static void round_done(struct round *round)
{
	owners_done(&round->owners);
	agent_view_done(&round->view);
	sample_done(&round->now);
}

static bool is_chosen(const struct round *round, const struct row *row)
{
	return ip4_is_none(round->remote) || ip4_equal(round->remote, row->remote);
}

/* Counters and rates of all chosen rows; without a choice also of slot 0. */
struct total {
	struct slot_counters counters;
	struct rate rate;
	size_t n;
};

static struct total sum_up(const struct round *round)
{
	struct total total = { 0 };
	struct rate rate;

	for (size_t i = 0; i < round->now.live.rows.n; i++) {
		if (!is_chosen(round, &round->now.live.rows.list[i]))
			continue;
		slot_counters_add(&total.counters, &round->now.live.counters[i]);
		rate = sample_rate(round->before, &round->now, i);
		rate_add(&total.rate, &rate);
		total.n++;
	}
	if (!ip4_is_none(round->remote))
		return total;
	slot_counters_add(&total.counters, &round->now.live.no_entry);
	rate = sample_no_entry_rate(round->before, &round->now);
	rate_add(&total.rate, &rate);
	return total;
}

/* What stayed on the tunnel though nobody asked to count it only. */
static uint64_t kept_of(const struct slot_counters *counters)
{
	return kept_packets(counters) + counters->kept.packets[MAPS_KEPT_NO_ENTRY] -
	       counters->kept.packets[MAPS_KEPT_SHADOW];
}

/* ---- JSON */

static json_t *rate_json(const struct rate *rate)
{
	json_t *kept;

	if (!rate->known)
		return json_null();
	kept = json_object();
	for (size_t i = 0; kept && i < MAPS_REASON_COUNT; i++)
		if (i != MAPS_KEPT_NO_ENTRY)
			(void)json_object_set_new(kept, maps_reason_name((enum maps_reason)i),
				json_real(rate->kept[i]));
	return json_pack("{s:f, s:f, s:o}", "direct_packets", rate->packets, "direct_bytes",
		rate->bytes, "kept", kept);
}

static json_t *row_json(const struct round *round, size_t i)
{
	const struct row *row = &round->now.live.rows.list[i];
	const json_t *tunnel = owners_find(&round->owners, row);
	struct rate rate = sample_rate(round->before, &round->now, i);

	return json_pack("{s:s, s:o, s:b, s:o, s:o, s:o}", "remote", IP4_FORMAT(row->remote),
		"inner_source",
		row->map == ROW_SOURCES ? json_string(IP4_FORMAT(row->inner_source)) : json_null(),
		"shared", (row->entry.flags & MAPS_FLAG_SHARED) != 0, "tunnel",
		tunnel ? json_incref((json_t *)tunnel) : json_null(), "counters",
		status_counters(&round->now.live.counters[i]), "rates", rate_json(&rate));
}

static json_t *rows_json(const struct round *round)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < round->now.live.rows.n; i++) {
		if (!is_chosen(round, &round->now.live.rows.list[i]))
			continue;
		if (json_array_append_new(array, row_json(round, i)) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static int print_json(const struct round *round, const struct total *total)
{
	double seconds = sample_seconds(round->before, &round->now);
	const struct maps_kept_counters *none = &round->now.live.no_entry.kept;
	char time_text[SAMPLE_TIME_MAX];

	return ctl_print_json(round->ctl,
		json_pack("{s:i, s:s, s:o, s:o, s:o, s:{s:o, s:o}, s:I, s:I}", "schema_version",
			STATS_SCHEMA_VERSION, "time", sample_time(&round->now, time_text),
			"agent_running",
			round->view.life == AGENT_UNKNOWN
				? json_null()
				: json_boolean(round->view.life == AGENT_RUNNING),
			"seconds", seconds > 0 ? json_real(seconds) : json_null(), "rows",
			rows_json(round), "total", "counters", status_counters(&total->counters),
			"rates", rate_json(&total->rate), "no_entry_packets",
			(json_int_t)none->packets[MAPS_KEPT_NO_ENTRY], "no_program_packets",
			(json_int_t)none->packets[MAPS_KEPT_NO_PROGRAM]));
}

/* ---- lines, for a pipe */

static void print_line(const char *time_text, const char *who, const struct slot_counters *counters,
	const struct rate *rate)
{
	enum maps_reason main_reason;

	(void)printf("%s %s direct_packets=%" PRIu64 " direct_bytes=%" PRIu64 " shadow=%" PRIu64
		     " kept=%" PRIu64,
		time_text, who, (uint64_t)counters->direct.packets,
		(uint64_t)counters->direct.bytes,
		(uint64_t)counters->kept.packets[MAPS_KEPT_SHADOW], kept_of(counters));
	if (rate->known)
		(void)printf(" packets_per_s=%.1f bits_per_s=%.0f shadow_per_s=%.1f "
			     "kept_per_s=%.1f",
			rate->packets, rate->bytes * 8, rate->kept[MAPS_KEPT_SHADOW],
			rate_kept(rate, &main_reason));
	for (size_t i = 0; i < MAPS_REASON_COUNT; i++)
		if (counters->kept.packets[i] > 0 && i != MAPS_KEPT_SHADOW)
			(void)printf(" %s=%" PRIu64, maps_reason_name((enum maps_reason)i),
				(uint64_t)counters->kept.packets[i]);
	(void)fputc('\n', stdout);
}

static void print_lines(const struct round *round, const struct total *total)
{
	char time_text[SAMPLE_TIME_MAX], who[80];

	(void)sample_time(&round->now, time_text);
	for (size_t i = 0; i < round->now.live.rows.n; i++) {
		const struct row *row = &round->now.live.rows.list[i];
		struct rate rate = sample_rate(round->before, &round->now, i);

		if (!is_chosen(round, row))
			continue;
		(void)snprintf(who, sizeof(who), "remote=%s inner_source=%s",
			IP4_FORMAT(row->remote),
			row->map == ROW_SOURCES ? IP4_FORMAT(row->inner_source) : "-");
		print_line(time_text, who, &round->now.live.counters[i], &rate);
	}
	print_line(time_text, "total", &total->counters, &total->rate);
}

/* ---- a table */

#define WIDE 120 /* columns from which all reasons are told in the table */

static bool has_room(const struct ctl *ctl)
{
	unsigned int width = output_width();

	return ctl->interval == 0 && (width == 0 || width >= WIDE);
}

/* The reason with the most packets that is not told yet; MAPS_REASON_COUNT: none. */
static size_t next_reason(const struct slot_counters *counters, const bool *told)
{
	size_t most = MAPS_REASON_COUNT;

	for (size_t i = 0; i < MAPS_REASON_COUNT; i++)
		if (!told[i] && counters->kept.packets[i] > 0 &&
			(most == MAPS_REASON_COUNT ||
				counters->kept.packets[i] > counters->kept.packets[most]))
			most = i;
	return most;
}

/*
 * "3000 no-next-hop, 3 icmp-error", the most first; or only the first name. The
 * caller frees it; NULL: no memory.
 */
static char *describe_reasons(const struct slot_counters *counters, bool all)
{
	_cleanup_free_ char *text = NULL;
	bool told[MAPS_REASON_COUNT] = { [MAPS_KEPT_SHADOW] = true };
	size_t size = 0, reason = next_reason(counters, told);
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	if (reason == MAPS_REASON_COUNT)
		(void)fputc('-', out);
	else if (!all)
		(void)fputs(maps_reason_name((enum maps_reason)reason), out);
	for (bool first = true; all && reason != MAPS_REASON_COUNT; first = false) {
		(void)fprintf(out, "%s%" PRIu64 " %s%s", first ? "" : ", ",
			(uint64_t)counters->kept.packets[reason],
			reason == MAPS_DROP_WRITE_FAILED ? "dropped: " : "",
			maps_reason_name((enum maps_reason)reason));
		told[reason] = true;
		reason = next_reason(counters, told);
	}
	if (fclose(out) != 0)
		return NULL;
	return TAKE_PTR(text);
}

static void add_rate(struct table *table, const struct rate *rate, double value)
{
	table_add(table, "%s", rate->known ? HUMAN_RATE(value) : "-");
}

static void add_number(const struct round *round, struct table *table, enum cell cell,
	const struct slot_counters *counters, const struct rate *rate)
{
	_cleanup_free_ char *reasons = NULL;
	enum maps_reason main_reason;

	if (!round->wanted[cell])
		return;
	switch (cell) {
	case CELL_DIRECT:
		table_add(table, "%" PRIu64, (uint64_t)counters->direct.packets);
		return;
	case CELL_BYTES:
		if (round->ctl->brief)
			table_add(table, "%" PRIu64, (uint64_t)counters->direct.bytes);
		else
			table_add(table, "%s", HUMAN_BYTES(counters->direct.bytes));
		return;
	case CELL_DIRECT_RATE:
		add_rate(table, rate, rate->packets);
		return;
	case CELL_BIT_RATE:
		add_rate(table, rate, rate->bytes * 8);
		return;
	case CELL_SHADOW:
		table_add(table, "%" PRIu64, (uint64_t)counters->kept.packets[MAPS_KEPT_SHADOW]);
		return;
	case CELL_KEPT:
		table_add(table, "%" PRIu64, kept_of(counters));
		return;
	case CELL_KEPT_RATE:
		add_rate(table, rate, rate_kept(rate, &main_reason));
		return;
	case CELL_REASONS:
		reasons = describe_reasons(counters, has_room(round->ctl));
		table_add(table, "%s", reasons ? reasons : "?");
		return;
	case CELL_REMOTE:
	case CELL_SOURCE:
	case CELL_TUNNEL:
	case CELL_COUNT:
		return;
	}
}

static void add_line(const struct round *round, struct table *table, const struct row *row,
	const struct slot_counters *counters, const struct rate *rate)
{
	const json_t *tunnel = row ? owners_find(&round->owners, row) : NULL;

	table_add(table, "%s", row ? IP4_FORMAT(row->remote) : "total");
	if (round->wanted[CELL_SOURCE])
		table_add(table, "%s",
			!row                      ? ""
			: row->map == ROW_SOURCES ? IP4_FORMAT(row->inner_source)
						  : "-");
	if (!round->wanted[CELL_TUNNEL])
		; /* left out */
	else if (tunnel)
		table_add(table, "%s %s", json_text(tunnel, "netns"), json_text(tunnel, "ifname"));
	else
		table_add(table, "%s",
			!row                                  ? ""
			: row->entry.flags & MAPS_FLAG_SHARED ? "(shared)"
							      : "-");
	for (size_t i = CELL_DIRECT; i < CELL_COUNT; i++)
		add_number(round, table, (enum cell)i, counters, rate);
}

static void choose_columns(struct round *round)
{
	for (size_t i = 0; i < CELL_COUNT; i++)
		round->wanted[i] = true;
	if (round->ctl->interval == 0)
		round->wanted[CELL_DIRECT_RATE] = round->wanted[CELL_BIT_RATE] =
			round->wanted[CELL_KEPT_RATE] = false;
	if (round->ctl->brief) {
		round->wanted[CELL_TUNNEL] = round->wanted[CELL_REASONS] = false;
		return;
	}
	round->wanted[CELL_SOURCE] = false;
	for (size_t i = 0; i < round->now.live.rows.n; i++)
		if (round->now.live.rows.list[i].map == ROW_SOURCES)
			round->wanted[CELL_SOURCE] = true;
}

static int print_table(struct round *round, const struct total *total)
{
	_cleanup_(table_done) struct table table;
	struct table_column columns[CELL_COUNT];
	size_t n = 0;

	choose_columns(round);
	for (size_t i = 0; i < CELL_COUNT; i++)
		if (round->wanted[i])
			columns[n++] = all_columns[i];
	table_init(&table, columns, n);
	table.no_titles = round->ctl->brief || round->ctl->no_legend;
	for (size_t i = 0; i < round->now.live.rows.n; i++) {
		struct rate rate = sample_rate(round->before, &round->now, i);

		if (is_chosen(round, &round->now.live.rows.list[i]))
			add_line(round, &table, &round->now.live.rows.list[i],
				&round->now.live.counters[i], &rate);
	}
	if (!round->ctl->brief)
		add_line(round, &table, NULL, &total->counters, &total->rate);
	return table_print(&table, output_width());
}

/* All reasons in full: the last column of a narrow table has no room for them. */
static void print_reasons(const struct slot_counters *counters)
{
	for (size_t i = 0; i < MAPS_REASON_COUNT; i++)
		if (counters->kept.packets[i] > 0)
			(void)printf("%12" PRIu64 "  %s: %s\n", (uint64_t)counters->kept.packets[i],
				i == MAPS_DROP_WRITE_FAILED ? "dropped" : "kept",
				maps_reason_name((enum maps_reason)i));
}

/* ---- rounds */

static int print_round(struct round *round)
{
	struct total total = sum_up(round);
	char time_text[SAMPLE_TIME_MAX];

	if (!ip4_is_none(round->remote) && total.n == 0)
		return ctl_fail(round->ctl, CTL_FAILED, "not-found",
			"'ipipdirectctl stats' shows what there is, 'ipipdirectctl explain' why",
			"no row for remote %s: its packets stay on the tunnel",
			IP4_FORMAT(round->remote));
	if (round->ctl->json)
		return print_json(round, &total);
	if (round->ctl->interval > 0 && !isatty(STDOUT_FILENO)) {
		print_lines(round, &total);
		return CTL_OK;
	}
	if (round->ctl->interval > 0)
		(void)printf("%s\n", sample_time(&round->now, time_text));
	if (print_table(round, &total) < 0)
		return ctl_fail(round->ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	if (!round->ctl->brief)
		print_reasons(&total.counters);
	if (round->ctl->interval > 0)
		(void)fputc('\n', stdout);
	return CTL_OK;
}

/* `now` gets the readings of this round. */
static int do_round(const struct ctl *ctl, struct ip4 remote, const struct sample *before,
	bool first, struct sample *now)
{
	_cleanup_(round_done) struct round round = {
		.ctl = ctl, .before = before, .now = SAMPLE_NONE, .remote = remote
	};
	int r, status;

	r = sample_take(&round.now);
	if (r < 0)
		return live_fail(ctl, r);
	if (agent_read(ctl, &round.view) < 0 || owners_make(round.view.document, &round.owners) < 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	status = print_round(&round);
	if (status == CTL_OK && first && round.view.life == AGENT_STOPPED)
		ctl_note(ctl, "the agent is not running: what is pinned goes on counting");
	*now = round.now;
	round.now = SAMPLE_NONE;
	return status;
}

/* Rounds begin at even distances, however long one takes. */
static void wait_for_round(struct timespec *next, double interval)
{
	struct timespec now;

	next->tv_sec += (time_t)interval;
	next->tv_nsec += (long)((interval - (double)(time_t)interval) * 1e9);
	if (next->tv_nsec >= 1000000000) {
		next->tv_sec++;
		next->tv_nsec -= 1000000000;
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec > next->tv_sec) /* far behind, as after a suspension: begin anew */
		*next = now;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL) == EINTR)
		;
}

static int watch(const struct ctl *ctl, struct ip4 remote)
{
	_cleanup_(sample_done) struct sample before = SAMPLE_NONE;
	struct timespec next;
	int status = CTL_OK;

	(void)clock_gettime(CLOCK_MONOTONIC, &next);
	for (unsigned int n = 0; status == CTL_OK && (ctl->rounds == 0 || n < ctl->rounds); n++) {
		struct sample now = SAMPLE_NONE;

		if (n > 0)
			wait_for_round(&next, ctl->interval);
		status = do_round(ctl, remote, &before, n == 0, &now);
		sample_done(&before);
		before = now;
		if (fflush(stdout) != 0)
			return CTL_FAILED; /* main() says it */
	}
	return status;
}

static int run_stats(const struct ctl *ctl)
{
	struct ctl with_interval = *ctl;
	struct sample now = SAMPLE_NONE;
	struct ip4 remote = { 0 };
	int status;

	if (ctl->n_args > 0 && (ip4_parse(ctl->args[0], &remote) < 0 || ip4_is_none(remote)))
		return ctl_fail(ctl, CTL_USAGE, "usage", "try 'ipipdirectctl stats --help'",
			"'%s' is no IPv4 address", ctl->args[0]);
	if (ctl->rounds > 0 && ctl->interval == 0)
		with_interval.interval = 1;
	if (with_interval.interval > 0)
		return watch(&with_interval, remote);
	status = do_round(ctl, remote, NULL, true, &now);
	sample_done(&now);
	return status;
}

const struct ctl_command ctl_stats_command = {
	.name = "stats",
	.arguments = "[REMOTE]",
	.summary = "packets and bytes, by row and reason",
	.help = "Prints what the pinned maps have counted, by row and in total: packets and\n"
		"bytes sent straight to clients, packets that mode shadow only counted, and\n"
		"those kept on the tunnel, by reason. REMOTE narrows it to one tunnel remote.\n"
		"Needs no agent.\n"
		"\n"
		"With --watch it goes on, with rates since the round before: a block each round\n"
		"on a terminal, else lines that begin with the time, and with -j one object a\n"
		"line. The total is of all rows and of IPIP packets to remotes without one.\n",
	.options = CTL_OPTION_WATCH | CTL_OPTION_ROUNDS,
	.max_args = 1,
	.run = run_stats,
};
