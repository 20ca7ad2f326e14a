/* SPDX-License-Identifier: MIT */
/*
 * explain: why the packets of one tunnel go direct or do not, step by step, as the agent decided it and
 * as it is in the kernel now.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/core/ip4.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/explain.h"
#include "tools/ctl/output.h"
#include "tools/ctl/table.h"

#define EXPLAIN_SCHEMA_VERSION 1 /* schema/ctl-explain.schema.json */

static void inquiry_done(struct inquiry *inquiry)
{
	findings_done(&inquiry->steps);
	search_done(&inquiry->search);
	live_done(&inquiry->live);
	agent_view_done(&inquiry->view);
}

static json_t *name_json(const json_t *tunnel)
{
	if (!tunnel)
		return json_null();
	return json_pack("{s:s, s:s}", "netns", json_text(tunnel, "netns"), "ifname",
		json_text(tunnel, "ifname"));
}

static int print_json(const struct inquiry *inquiry, bool direct)
{
	static const char *const reaches[] = {
		[REACH_NONE] = "none", [REACH_SOME] = "some", [REACH_ALL] = "all"
	};
	const struct ctl *ctl = inquiry->ctl;

	return ctl_print_json(
		ctl, json_pack("{s:i, s:o, s:o, s:o, s:b, s:o, s:o}", "schema_version",
			     EXPLAIN_SCHEMA_VERSION, "view", agent_view_json(&inquiry->view),
			     "word", status_text(ctl->args[0]), "tunnel",
			     name_json(inquiry->tunnel), "direct", direct, "still_direct",
			     direct ? json_null() : json_string(reaches[inquiry->reach]), "steps",
			     findings_json(&inquiry->steps, "step")));
}

static const char *brief_word(const struct inquiry *inquiry, const struct finding *fault)
{
	if (!fault || inquiry->reach == REACH_ALL)
		return "direct";
	return inquiry->reach == REACH_SOME ? "partly" : "tunnel";
}

/* Who, whether, and the first reason why not; cut where the reader's terminal ends. */
static int print_brief(const struct inquiry *inquiry, const struct finding *fault)
{
	static const struct table_column columns[] = { { "" }, { "" }, { "", .shrinkto = 20 } };
	_cleanup_(table_done) struct table table;

	table_init(&table, columns, ELEMENTS_OF(columns));
	table.no_titles = true;
	if (inquiry->tunnel)
		table_add(&table, "%s %s", json_text(inquiry->tunnel, "netns"),
			json_text(inquiry->tunnel, "ifname"));
	else
		table_add(&table, "%s", inquiry->ctl->args[0]);
	table_add(&table, "%s", brief_word(inquiry, fault));
	table_add(&table, "%s%s%s", fault ? fault->name : "", fault ? ": " : "",
		fault ? fault->text : "");
	return table_print(&table, output_width());
}

static void print_fault(enum reach reach, const struct finding *fault)
{
	switch (reach) {
	case REACH_NONE:
		(void)printf("Its packets stay on the tunnel: see \"%s\".", fault->name);
		return;
	case REACH_SOME:
		(void)printf("Packets that have a row go direct, the rest stay on the tunnel: see "
			     "\"%s\".",
			fault->name);
		return;
	case REACH_ALL:
		(void)printf(
			"Its packets go direct all the same, by the row of its remote: see \"%s\".",
			fault->name);
		return;
	}
}

static int conclude(const struct inquiry *inquiry)
{
	const struct finding *fault = findings_first(&inquiry->steps, RESULT_FAIL);
	const struct finding *doubt = findings_first(&inquiry->steps, RESULT_WARN);
	int status;

	if (inquiry->steps.failed)
		return ctl_fail(inquiry->ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	if (inquiry->ctl->json) {
		status = print_json(inquiry, !fault);
		return status != CTL_OK ? status : fault ? CTL_DEGRADED : CTL_OK;
	}
	if (inquiry->ctl->brief) {
		if (print_brief(inquiry, fault) < 0)
			return ctl_fail(inquiry->ctl, CTL_FAILED, "no-memory", NULL, "no memory");
		return fault ? CTL_DEGRADED : CTL_OK;
	}
	findings_print(&inquiry->steps);
	(void)fputs(colour_begin(fault   ? COLOUR_BAD
				 : doubt ? COLOUR_WARNING
					 : COLOUR_GOOD),
		stdout);
	if (fault)
		print_fault(inquiry->reach, fault);
	else if (doubt)
		(void)printf("Direct return works for it, but see \"%s\".", doubt->name);
	else
		(void)fputs("Direct return works for it.", stdout);
	(void)printf("%s\n", colour_end());
	return fault ? CTL_DEGRADED : CTL_OK;
}

#define CANDIDATES_MAX 12

/* "a tun0; b tun0; 7 more"; the caller's. */
static char *list_candidates(const json_t *const *tunnels, size_t n)
{
	_cleanup_free_ char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	for (size_t i = 0; i < n && i < CANDIDATES_MAX; i++)
		(void)fprintf(out, "%s%s %s", i > 0 ? "; " : "", json_text(tunnels[i], "netns"),
			json_text(tunnels[i], "ifname"));
	if (n > CANDIDATES_MAX)
		(void)fprintf(out, "; %zu more", n - CANDIDATES_MAX);
	return fclose(out) == 0 ? TAKE_PTR(text) : NULL;
}

static int fail_ambiguous(const struct inquiry *inquiry)
{
	_cleanup_free_ char *list = list_candidates(inquiry->search.tunnels, inquiry->search.n);

	return ctl_fail(inquiry->ctl, CTL_FAILED, "ambiguous-word",
		"name both: ipipdirectctl explain NETNS IFNAME", "'%s' means %zu tunnels: %s",
		inquiry->ctl->args[0], inquiry->search.n, list ?: "?");
}

static int fail_unknown(const struct inquiry *inquiry)
{
	const json_t *tunnels = json_object_get(inquiry->view.document, "tunnels");
	size_t n = json_array_size(tunnels), n_listed = n < CANDIDATES_MAX ? n : CANDIDATES_MAX;
	const json_t *first[CANDIDATES_MAX] = { 0 };
	_cleanup_free_ char *list = NULL, *hint = NULL;

	for (size_t i = 0; i < n_listed; i++)
		first[i] = json_array_get(tunnels, i);
	list = list_candidates(first, n_listed);
	if (n == 0 ||
		asprintf(&hint, "known are %s%s; 'ipipdirectctl tunnels' shows their addresses",
			list ?: "?", n > n_listed ? " and more" : "") < 0)
		hint = NULL;
	return ctl_fail(inquiry->ctl, CTL_FAILED, "not-found",
		hint ? hint : "the agent sees no tunnel at all",
		"'%s%s%s' is no remote, address, network namespace or interface of a tunnel",
		inquiry->ctl->args[0], inquiry->ctl->n_args > 1 ? " " : "",
		inquiry->ctl->n_args > 1 ? inquiry->ctl->args[1] : "");
}

static bool has_address(const struct row *row, int which, struct ip4 address)
{
	switch (which) {
	case 0:
		return row->map == ROW_REMOTES && ip4_equal(row->remote, address);
	case 1:
		return row->map == ROW_SOURCES && ip4_equal(row->inner_source, address);
	default:
		return row->entry.game_server_ip == address.be;
	}
}

/* The row that has the address as remote, else as inner source, else as game server IP; SIZE_MAX: none. */
static size_t find_row(const struct inquiry *inquiry, struct ip4 address)
{
	const struct rows *rows = &inquiry->live.rows;

	if (inquiry->live_error < 0)
		return SIZE_MAX;
	for (int which = 0; which < 3; which++)
		for (size_t i = 0; i < rows->n; i++)
			if (has_address(&rows->list[i], which, address))
				return i;
	return SIZE_MAX;
}

static int explain(struct inquiry *inquiry)
{
	const struct ctl *ctl = inquiry->ctl;
	struct ip4 address;
	size_t row = SIZE_MAX;

	if (inquiry->search.n > 1)
		return fail_ambiguous(inquiry);
	if (inquiry->search.n == 1) {
		inquiry->tunnel = inquiry->search.tunnels[0];
		explain_tunnel(inquiry);
		return conclude(inquiry);
	}
	if (ip4_parse(ctl->args[0], &address) == 0 && !ip4_is_none(address))
		row = find_row(inquiry, address);
	if (row != SIZE_MAX)
		explain_row(inquiry, row);
	else if (!inquiry->view.document)
		return agent_fail(ctl, &inquiry->view);
	else if (inquiry->search.netns)
		explain_empty_namespace(inquiry);
	else
		return fail_unknown(inquiry);
	return conclude(inquiry);
}

static int run_explain(const struct ctl *ctl)
{
	_cleanup_(inquiry_done) struct inquiry inquiry = {
		.ctl = ctl, .live = LIVE_NONE, .steps.note = "info"
	};
	int r;

	r = agent_read(ctl, &inquiry.view);
	if (r == 0)
		r = search_make(inquiry.view.document, ctl->args[0],
			ctl->n_args > 1 ? ctl->args[1] : NULL, &inquiry.search);
	if (r < 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	inquiry.live_error = ctl->status_file ? -ENOTSUP : live_read(&inquiry.live);
	if (inquiry.live_error == 0)
		inquiry.live_error = live_count(&inquiry.live);
	return explain(&inquiry);
}

const struct ctl_command ctl_explain_command = {
	.name = "explain",
	.arguments = "WORD [IFNAME]",
	.summary = "why a tunnel's packets go direct or do not",
	.help = "Shows every step of the decision about one tunnel, what is in the kernel now,\n"
		"and what to do. WORD is its remote, its game server IP, the address its server\n"
		"is bound to, its network namespace or its interface; IFNAME chooses one of\n"
		"several in a namespace.\n"
		"\n"
		"Exit status: 0 when direct return works for it, 4 when it does not or only for\n"
		"some of its packets, 2 when nothing or more than one tunnel is meant.\n",
	.options = CTL_OPTION_STATUS_FILE,
	.min_args = 1,
	.max_args = 2,
	.run = run_explain,
};
