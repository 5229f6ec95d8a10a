#include "csys.h"

int csys_value(void) { return CSYS_VALUE; }
