/* SPDX-License-Identifier: MIT */
/*
 * ipipdirectctl: the command line. Options may stand before or behind the command; commands may be
 * shortened as far as they stay unambiguous. What a command does is in its own file.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/libbpf.h>

#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/ctl.h"

static const struct ctl_command *const commands[] = {
	&ctl_status_command,
	&ctl_netns_command,
	&ctl_tunnels_command,
	&ctl_map_command,
	&ctl_stats_command,
	&ctl_top_command,
	&ctl_explain_command,
	&ctl_doctor_command,
	&ctl_metrics_command,
	&ctl_events_command,
	&ctl_config_command,
	&ctl_reload_command,
	&ctl_mode_command,
	&ctl_resync_command,
	&ctl_attach_command,
	&ctl_detach_command,
	&ctl_version_command,
	NULL,
};

enum long_only {
	OPTION_STATUS_FILE = 256,
	OPTION_FORCE,
	OPTION_WATCH,
	OPTION_BRIEF,
	OPTION_NO_LEGEND,
	OPTION_TEXTFILE,
	OPTION_SORT,
	OPTION_UNTIL_RELOAD,
};

#define INTERVAL_DEFAULT 1.0
#define INTERVAL_MIN 0.1
#define INTERVAL_MAX 3600.0
#define ROUNDS_MAX 1000000000L

static const struct option long_options[] = {
	{ "json", no_argument, NULL, 'j' },
	{ "pretty", no_argument, NULL, 'p' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ "brief", no_argument, NULL, OPTION_BRIEF },
	{ "no-legend", no_argument, NULL, OPTION_NO_LEGEND },
	{ "status-file", required_argument, NULL, OPTION_STATUS_FILE },
	{ "force", no_argument, NULL, OPTION_FORCE },
	{ "watch", optional_argument, NULL, OPTION_WATCH },
	{ "rounds", required_argument, NULL, 'n' },
	{ "delay", required_argument, NULL, 'd' },
	{ "sort", required_argument, NULL, OPTION_SORT },
	{ "until-reload", no_argument, NULL, OPTION_UNTIL_RELOAD },
	{ "textfile", required_argument, NULL, OPTION_TEXTFILE },
	{ 0 },
};

/* Those that only some commands take, as --help says it. */
static const struct {
	enum ctl_option bit;
	const char *name;
	const char *help;
} command_options[] = {
	{ CTL_OPTION_STATUS_FILE, "--status-file",
		"  --status-file FILE\n"
		"                 read FILE, and neither the agent nor the maps\n" },
	{ CTL_OPTION_FORCE, "--force",
		"  --force        do it in spite of what speaks against it\n" },
	{ CTL_OPTION_WATCH, "--watch",
		"  --watch[=SECS] go on, with rates, every SECS seconds (default 1)\n" },
	{ CTL_OPTION_ROUNDS, "--rounds", "  -n, --rounds N end after N rounds\n" },
	{ CTL_OPTION_DELAY, "--delay",
		"  -d, --delay SECS\n"
		"                 time between two rounds (default 1)\n" },
	{ CTL_OPTION_SORT, "--sort",
		"  --sort KEY     b bits (default), p packets, k kept, n name\n" },
	{ CTL_OPTION_UNTIL_RELOAD, "--until-reload",
		"  --until-reload a reload of the configuration takes it back\n" },
	{ CTL_OPTION_TEXTFILE, "--textfile",
		"  --textfile FILE\n"
		"                 write FILE, for node_exporter\n" },
};

/* argv, before it is known which command it is for. */
struct command_line {
	struct ctl ctl;
	unsigned int options; /* enum ctl_option, those that were given */
	bool help, version;
	char wrong_option[96]; /* what is wrong with one; "": nothing */
};

static const char common_options[] = "  -j, --json     print JSON, errors too\n"
				     "  -p, --pretty   print JSON for reading\n"
				     "  -br, --brief   one short line each\n"
				     "  --no-legend    tables without titles\n"
				     "  -h, --help     print this, or what a command does\n";

static void print_summaries(const struct ctl_command *const *list, const char *prefix)
{
	for (; *list; list++) {
		char usage[64];

		if ((*list)->sub) {
			print_summaries((*list)->sub, (*list)->name);
			continue;
		}
		(void)snprintf(usage, sizeof(usage), "%s%s%s%s%s", prefix, prefix[0] ? " " : "",
			(*list)->name, (*list)->arguments ? " " : "",
			(*list)->arguments ? (*list)->arguments : "");
		(void)printf("  %-31s %s\n", usage, (*list)->summary);
	}
}

static int print_help(void)
{
	(void)fputs("Usage: ipipdirectctl [OPTION]... COMMAND [ARGUMENT]...\n"
		    "\n"
		    "Shows what ipipdirect does, steers it, and takes it off again.\n"
		    "\n"
		    "Commands, which may be shortened:\n",
		stdout);
	print_summaries(commands, "");
	(void)fputs("\nOptions, before or behind the command:\n", stdout);
	(void)fputs(common_options, stdout);
	(void)fputs("  -V, --version  print the version\n"
		    "\n"
		    "Exit status: 0 done, 1 wrong usage, 2 failed, 3 the agent is not running,\n"
		    "4 something needs an operator.\n"
		    "\n"
		    "'ipipdirectctl COMMAND --help' says more; so does ipipdirectctl(8).\n",
		stdout);
	return CTL_OK;
}

/* Words of a command's full name, "map get". */
struct path {
	char text[64];
};

static void path_append(struct path *path, const char *word)
{
	size_t n = strlen(path->text);

	(void)snprintf(path->text + n, sizeof(path->text) - n, "%s%s", n > 0 ? " " : "", word);
}

static int print_command_help(const struct ctl_command *command, const struct path *path)
{
	(void)printf("Usage: ipipdirectctl %s%s%s [OPTION]...\n\n%s\n", path->text,
		command->arguments ? " " : "", command->arguments ? command->arguments : "",
		command->help);
	if (command->sub) {
		(void)fputs("Commands:\n", stdout);
		print_summaries(command->sub, path->text);
		(void)fputc('\n', stdout);
	}
	(void)fputs("Options:\n", stdout);
	for (size_t i = 0; i < ELEMENTS_OF(command_options); i++)
		if (command->options & command_options[i].bit)
			(void)fputs(command_options[i].help, stdout);
	(void)fputs(common_options, stdout);
	return CTL_OK;
}

/* Said only when all options are read: a -j may follow. `option` is what getopt_long() returned. */
static void note_wrong_option(struct command_line *line, int option, char **argv)
{
	const char *word = argv[optind - 1];

	if (line->wrong_option[0])
		return;
	if (option == ':')
		(void)snprintf(line->wrong_option, sizeof(line->wrong_option),
			"option '%s' needs an argument", word);
	else if (optopt > ' ' && optopt < 0x7f && strncmp(word, "--", 2) != 0)
		(void)snprintf(line->wrong_option, sizeof(line->wrong_option),
			"unknown option '-%c'", optopt);
	else
		(void)snprintf(line->wrong_option, sizeof(line->wrong_option),
			"unknown or ambiguous option '%s'", word);
}

/* Said only when all options are read, as above. */
static void note_wrong_value(struct command_line *line, const char *option, const char *expected)
{
	if (!line->wrong_option[0])
		(void)snprintf(line->wrong_option, sizeof(line->wrong_option),
			"%s: expected %s, not '%.20s'", option, expected, optarg);
}

static void take_interval(struct command_line *line, const char *option)
{
	char *end;
	double value = INTERVAL_DEFAULT;

	if (optarg) {
		value = strtod(optarg, &end);
		if (end == optarg || *end != '\0' || !(value >= INTERVAL_MIN) ||
			!(value <= INTERVAL_MAX)) {
			note_wrong_value(line, option, "seconds from 0.1 to 3600");
			return;
		}
	}
	line->ctl.interval = value;
}

static void take_rounds(struct command_line *line)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(optarg, &end, 10);
	if (errno != 0 || end == optarg || *end != '\0' || value < 1 || value > ROUNDS_MAX) {
		note_wrong_value(line, "--rounds", "a number from 1");
		return;
	}
	line->ctl.rounds = (unsigned int)value;
}

static void take_option(struct command_line *line, int option, char **argv)
{
	switch (option) {
	case 'j':
		line->ctl.json = true;
		break;
	case 'p':
		line->ctl.json = line->ctl.pretty = true;
		break;
	case 'h':
		line->help = true;
		break;
	case 'V':
		line->version = true;
		break;
	case OPTION_BRIEF:
		line->ctl.brief = true;
		break;
	case OPTION_NO_LEGEND:
		line->ctl.no_legend = true;
		break;
	case OPTION_STATUS_FILE:
		line->ctl.status_file = optarg;
		line->options |= CTL_OPTION_STATUS_FILE;
		break;
	case OPTION_FORCE:
		line->ctl.force = true;
		line->options |= CTL_OPTION_FORCE;
		break;
	case OPTION_UNTIL_RELOAD:
		line->ctl.until_reload = true;
		line->options |= CTL_OPTION_UNTIL_RELOAD;
		break;
	case OPTION_WATCH:
		take_interval(line, "--watch");
		line->options |= CTL_OPTION_WATCH;
		break;
	case 'd':
		take_interval(line, "--delay");
		line->options |= CTL_OPTION_DELAY;
		break;
	case OPTION_SORT:
		line->ctl.sort = optarg;
		line->options |= CTL_OPTION_SORT;
		break;
	case OPTION_TEXTFILE:
		line->ctl.textfile = optarg;
		line->options |= CTL_OPTION_TEXTFILE;
		break;
	case 'n':
		take_rounds(line);
		line->options |= CTL_OPTION_ROUNDS;
		break;
	default:
		note_wrong_option(line, option, argv);
		break;
	}
}

/* As ip(8) spells it; getopt_long() would see two options in it. */
static void expand_brief(int argc, char **argv)
{
	static char brief[] = "--brief";

	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "-br") == 0)
			argv[i] = brief;
}

static void parse(int argc, char **argv, struct command_line *ret)
{
	int option;

	*ret = (struct command_line){ 0 };
	opterr = 0;
	expand_brief(argc, argv);
	while ((option = getopt_long(argc, argv, ":jphVn:d:", long_options, NULL)) >= 0)
		take_option(ret, option, argv);
	ret->ctl.args = argv + optind;
	ret->ctl.n_args = (size_t)(argc - optind);
}

/* The exact name, or the only one that begins so. *ret_rivals: how many begin so. */
static const struct ctl_command *find_command(
	const struct ctl_command *const *list, const char *word, size_t *ret_rivals)
{
	const struct ctl_command *found = NULL;
	size_t n = strlen(word), rivals = 0;

	for (; *list; list++) {
		if (n == 0 || strncmp((*list)->name, word, n) != 0)
			continue;
		if ((*list)->name[n] == '\0') {
			*ret_rivals = 1;
			return *list;
		}
		found = *list;
		rivals++;
	}
	*ret_rivals = rivals;
	return rivals == 1 ? found : NULL;
}

static void list_names(
	const struct ctl_command *const *list, const char *prefix, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (; *list && n < size; list++) {
		int w;

		if (strncmp((*list)->name, prefix, strlen(prefix)) != 0)
			continue;
		w = snprintf(buf + n, size - n, "%s%s", n > 0 ? ", " : "", (*list)->name);
		n += w > 0 ? (size_t)w : 0;
	}
}

/* Takes the words that name a command off the arguments. CTL_OK, or what ctl_fail() returned. */
static int resolve(struct ctl *ctl, struct path *path, const struct ctl_command **ret)
{
	const struct ctl_command *const *list = commands;
	const struct ctl_command *command = NULL;
	char names[256];
	size_t rivals;

	while (list && ctl->n_args > 0) {
		const char *word = ctl->args[0];
		const struct ctl_command *next = find_command(list, word, &rivals);

		list_names(list, next || rivals < 2 ? "" : word, names, sizeof(names));
		if (!next && rivals > 1)
			return ctl_fail(ctl, CTL_USAGE, "usage", "try 'ipipdirectctl --help'",
				"command '%s' is ambiguous: %s", word, names);
		if (!next)
			return ctl_fail(ctl, CTL_USAGE, "usage", "try 'ipipdirectctl --help'",
				"unknown command '%s%s%s'; expected %s", path->text,
				path->text[0] ? " " : "", word, names);
		command = next;
		path_append(path, command->name);
		ctl->args++;
		ctl->n_args--;
		list = command->sub;
	}
	*ret = command;
	return CTL_OK;
}

/* The first of the options that the command does not take; NULL: none. */
static const char *find_foreign_option(unsigned int given, unsigned int taken)
{
	for (size_t i = 0; i < ELEMENTS_OF(command_options); i++)
		if (given & ~taken & command_options[i].bit)
			return command_options[i].name;
	return NULL;
}

static int check(
	const struct command_line *line, const struct ctl_command *command, const struct path *path)
{
	const struct ctl *ctl = &line->ctl;
	const char *foreign;
	char hint[96], names[256];

	(void)snprintf(hint, sizeof(hint), "try 'ipipdirectctl %s%s--help'", path->text,
		path->text[0] ? " " : "");
	if (line->wrong_option[0])
		return ctl_fail(ctl, CTL_USAGE, "usage", hint, "%s", line->wrong_option);
	if (!command || command->sub) {
		list_names(command ? command->sub : commands, "", names, sizeof(names));
		return ctl_fail(ctl, CTL_USAGE, "usage", hint, "%s%sexpected a command: %s",
			path->text, path->text[0] ? ": " : "", names);
	}
	foreign = find_foreign_option(line->options, command->options);
	if (foreign)
		return ctl_fail(ctl, CTL_USAGE, "usage", hint, "'%s' does not take %s", path->text,
			foreign);
	if (ctl->n_args < command->min_args)
		return ctl_fail(ctl, CTL_USAGE, "usage", hint, "'%s' needs an argument: %s",
			path->text, command->arguments);
	if (ctl->n_args > command->max_args)
		return ctl_fail(ctl, CTL_USAGE, "usage", hint, "'%s': unexpected argument '%s'",
			path->text, ctl->args[command->max_args]);
	return CTL_OK;
}

static int run(struct command_line *line)
{
	const struct ctl_command *command = NULL;
	struct path path = { "" };
	int status;

	if (line->version && !line->wrong_option[0])
		return ctl_version_command.run(&line->ctl);
	status = resolve(&line->ctl, &path, &command);
	if (status != CTL_OK)
		return status;
	if (line->help && !line->wrong_option[0])
		return command ? print_command_help(command, &path) : print_help();
	status = check(line, command, &path);
	return status != CTL_OK ? status : command->run(&line->ctl);
}

static int print_nothing(enum libbpf_print_level level, const char *format, va_list ap)
{
	(void)level;
	(void)format;
	(void)ap;
	return 0; /* its errors come back to us */
}

int main(int argc, char **argv)
{
	struct command_line line;
	int status;

	(void)libbpf_set_print(print_nothing);
	parse(argc, argv, &line);
	status = run(&line);
	/* Output that was cut (no space left) is no success. */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		(void)fprintf(
			stderr, "ipipdirectctl: cannot write the output: %s\n", strerror(errno));
		return CTL_FAILED;
	}
	return status;
}
