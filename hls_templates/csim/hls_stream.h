// Streams for C simulation: a FIFO without bounds. Reading an empty one throws; what is left at the end is told.
#ifndef TSN_CSIM_HLS_STREAM_H
#define TSN_CSIM_HLS_STREAM_H

#ifdef __SYNTHESIS__

namespace hls {
// Declared only: a check of the firmware sees what it calls.
template <class T>
class stream {
    stream(const stream &);
    stream &operator=(const stream &);

public:
    stream();
    explicit stream(const char *name);
    T read();
    void write(const T &word);
    bool empty() const;
};
}  // namespace hls

#else

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

namespace hls {
// Names of the streams that were destroyed while they held words: a reader that takes too few, which hardware would
// notice as a deadlock.
inline std::vector<std::string> &leftovers() {
    static std::vector<std::string> names;
    return names;
}

template <class T>
class stream {
    std::vector<T> words;
    std::size_t first, deepest;
    std::string name;

    stream(const stream &);
    stream &operator=(const stream &);

public:
    explicit stream(const char *name = "stream") : first(0), deepest(0), name(name) {}
    ~stream() {
        if (!empty()) leftovers().push_back(name);
    }

    T read() {
        if (empty()) throw std::runtime_error("stream '" + name + "' is read while it is empty");
        const T word = words[first++];
        if (first == words.size()) {
            words.clear();
            first = 0;
        }
        return word;
    }
    void write(const T &word) {
        words.push_back(word);
        if (size() > deepest) deepest = size();
    }
    bool empty() const { return size() == 0; }
    std::size_t size() const { return words.size() - first; }
    // the most words that it ever held
    std::size_t peak() const { return deepest; }
};
}  // namespace hls

#endif
#endif
