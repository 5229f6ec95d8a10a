#!/bin/sh
# an asset that is executable
