#ifndef CSYS_VALUE
#define CSYS_VALUE 42
#endif
