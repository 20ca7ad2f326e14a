/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the commands of ipipdirectctl share: the command table, the command line as it was
 * understood, exit statuses, and the one way to end with an error.
 *
 * Each command is one file and one struct ctl_command; main.c lists them and knows nothing else.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* The contract of scripts; ipipdirectctl(8). */
enum ctl_exit {
	CTL_OK = 0,
	CTL_USAGE = 1,
	CTL_FAILED = 2,
	CTL_UNREACHABLE = 3, /* no agent is running */
	CTL_DEGRADED = 4,    /* something needs an operator */
};

/* Options that only some commands take; struct ctl_command.options. */
enum ctl_option {
	CTL_OPTION_STATUS_FILE = 1 << 0,
	CTL_OPTION_FORCE = 1 << 1,
	CTL_OPTION_WATCH = 1 << 2,
	CTL_OPTION_ROUNDS = 1 << 3,
	CTL_OPTION_TEXTFILE = 1 << 4,
	CTL_OPTION_DELAY = 1 << 5,
	CTL_OPTION_SORT = 1 << 6,
	CTL_OPTION_UNTIL_RELOAD = 1 << 7,
};

/* The command line, understood. Strings point into argv. */
struct ctl {
	bool json;
	bool pretty; /* only with json */
	bool force;
	bool silent; /* ctl_fail() only returns: the caller goes on, and says what matters */
	bool until_reload;
	bool brief;              /* one short line an object; says nothing with json */
	bool no_legend;          /* tables without titles */
	const char *status_file; /* NULL: the agent's own */
	const char *textfile;    /* NULL: standard output */
	const char *sort;        /* NULL: as the command likes */
	double interval;         /* --watch, --delay: seconds between two rounds; 0: not given */
	unsigned int rounds;     /* end after so many; 0: never */
	char **args;             /* the words behind the command */
	size_t n_args;
};

struct ctl_command {
	const char *name;
	const char *arguments; /* "REMOTE [INNER_SOURCE]"; NULL: takes none */
	const char *summary;   /* one line for the list */
	const char *help;      /* what --help says below the usage line */
	unsigned int options;  /* enum ctl_option */
	size_t min_args, max_args;
	int (*run)(const struct ctl *ctl);
	/* Instead of `run`: the commands below this one, ended by NULL. */
	const struct ctl_command *const *sub;
};

extern const struct ctl_command ctl_status_command;
extern const struct ctl_command ctl_netns_command;
extern const struct ctl_command ctl_tunnels_command;
extern const struct ctl_command ctl_map_command;
extern const struct ctl_command ctl_stats_command;
extern const struct ctl_command ctl_top_command;
extern const struct ctl_command ctl_explain_command;
extern const struct ctl_command ctl_doctor_command;
extern const struct ctl_command ctl_metrics_command;
extern const struct ctl_command ctl_events_command;
extern const struct ctl_command ctl_config_command;
extern const struct ctl_command ctl_reload_command;
extern const struct ctl_command ctl_mode_command;
extern const struct ctl_command ctl_resync_command;
extern const struct ctl_command ctl_attach_command;
extern const struct ctl_command ctl_detach_command;
extern const struct ctl_command ctl_version_command;

/* Hints that several commands give. */
#define CTL_HINT_READ "run as root or as a member of group ipipdirect"
#define CTL_HINT_ROOT "run as root"
#define CTL_HINT_START "start it: systemctl start ipipdirect"

/*
 * Ends a command with an error and returns `status`: with -j as {"error":{code,message,hint}} on
 * stdout, else as "ipipdirectctl: message" and a line "hint: …" on stderr. `code` is for programs
 * and never changes; `hint` may be NULL.
 */
__attribute__((format(printf, 5, 6))) int ctl_fail(const struct ctl *ctl, enum ctl_exit status,
	const char *code, const char *hint, const char *format, ...);

/*
 * The same without a hint, and with `more` (a reference, dropped; NULL: no memory) in the object that -j
 * prints; fields of the same name are replaced.
 */
__attribute__((format(printf, 5, 6))) int ctl_fail_with(const struct ctl *ctl, enum ctl_exit status,
	const char *code, json_t *more, const char *format, ...);

/* One line for people who read a table, on stderr; nothing with -j, where the document says it. */
__attribute__((format(printf, 2, 3))) void ctl_note(const struct ctl *ctl, const char *format, ...);

/*
 * Prints `document` as -j and -p ask and drops the reference; NULL is "no memory". Returns CTL_OK
 * or CTL_FAILED.
 */
int ctl_print_json(const struct ctl *ctl, json_t *document);
