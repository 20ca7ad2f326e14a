/* SPDX-License-Identifier: MIT */
#pragma once
/* What every unit test includes; cmocka.h needs the first four before it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
