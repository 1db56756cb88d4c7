// What good.cpp includes.
#ifndef GOOD_HPP
#define GOOD_HPP
#pragma once

namespace tsn {

struct counter {
    int value;
};

}  // namespace tsn

#endif
