// The words behind which UAX #29 sees ends of sentences that are none.
#include <stdlib.h>
#include <string.h>

#include "data/sentences.h"

// All tables are sorted by bytes.
static const char *const titles[] = {"Adm",  "Atty",  "Brig", "Capt", "Cllr",   "Cmdr", "Col",  "Const",
                                     "Cpl",  "Det",   "Dr",   "Fr",   "Ft",     "Gen",  "Gov",  "Hon",
                                     "Insp", "Lieut", "Lt",   "Maj",  "Messrs", "Mlle", "Mme",  "Mr",
                                     "Mrs",  "Ms",    "Msgr", "Mt",   "Pfc",    "Pres", "Prof", "Pte",
                                     "Pvt",  "Rep",   "Reps", "Rev",  "Sen",    "Sens", "Sgt",  "Spc",
                                     "St",   "Ste",   "Supt", "cf",   "e.g",    "eg",   "i.e",  "v",
                                     "viz",  "vs"};

static const char *const before_numbers[] = {"Apr",  "Art", "Aug", "Dec", "Feb", "Fig", "Jan", "Jul",
                                             "Jun",  "Mar", "No",  "Nos", "Nov", "Oct", "Op",  "Sec",
                                             "Sept", "Vol", "ca",  "no",  "nos", "p",   "pp",  "vol"};

static const char *const either[] = {"Ala",   "Ariz", "Ark",  "Assn", "Ave",  "Bancorp", "Blvd", "Bros",
                                     "Calif", "Co",   "Colo", "Conn", "Corp", "Del",     "Dept", "Fla",
                                     "Ga",    "Ill",  "Inc",  "Ind",  "Jr",   "Kan",     "Ky",   "La",
                                     "Ltd",   "Mass", "Md",   "Mich", "Minn", "Miss",    "Mo",   "Mont",
                                     "Neb",   "Nev",  "Okla", "Ore",  "Pa",   "Ph.D",    "Rd",   "Sr",
                                     "Tenn",  "Tex",  "Univ", "Va",   "Vt",   "Wash",    "Wis",  "Wyo",
                                     "al",    "etc"};

static const char *const starters[] =
    {"A",     "About",   "According", "After",     "All",     "Also",    "Although", "Among",   "An",
     "And",   "Another", "Are",       "As",        "At",      "Because", "Before",   "Both",    "But",
     "By",    "Can",     "Despite",   "Did",       "Do",      "During",  "Each",     "Even",    "Few",
     "For",   "From",    "He",        "Her",       "Here",    "His",     "How",      "However", "I",
     "I'm",   "I've",    "If",        "In",        "Is",      "It",      "It's",     "Its",     "Last",
     "Later", "Like",    "Many",      "Meanwhile", "More",    "Most",    "Much",     "My",      "No",
     "Nor",   "Not",     "Now",       "Of",        "On",      "Once",    "One",      "Only",    "Or",
     "Other", "Others",  "Our",       "Over",      "She",     "Since",   "So",       "Some",    "Still",
     "Such",  "That",    "That's",    "The",       "Their",   "Then",    "There",    "There's", "These",
     "They",  "This",    "Those",     "Though",    "Through", "Thus",    "To",       "Today",   "Two",
     "Under", "Until",   "Was",       "We",        "We're",   "What",    "When",     "Where",   "Whether",
     "Which", "While",   "Who",       "Why",       "Will",    "With",    "Yes",      "Yet",     "You",
     "Your"};

typedef struct {
  const char *bytes;
  int64_t n;
} word_view;

static int compare(const void *key, const void *entry) {
  const word_view *word = key;
  const char *known = *(const char *const *)entry;
  int order = strncmp(word->bytes, known, (size_t)word->n);
  return order != 0 ? order : known[word->n] == '\0' ? 0 : -1;
}

#define IN(table, word) \
  (bsearch(word, table, sizeof(table) / sizeof *(table), sizeof *(table), compare) != NULL)

static bool is_letter(char byte) {
  return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

// Single letters with stops between them: "U.S", "a.m", "D.C"; one capital alone is an initial.
static bool is_letters(const char *word, int64_t n) {
  for (int64_t k = 0; k < n; k++)
    if (k % 2 == 0 ? !is_letter(word[k]) : word[k] != '.')
      return false;
  return n % 2 == 1 && (n > 1 || (word[0] >= 'A' && word[0] <= 'Z'));
}

sentence_word sentence_word_kind(const char *word, int64_t n) {
  const word_view key = {word, n};
  if (n <= 0 || memchr(word, '\0', (size_t)n) != NULL)
    return SENTENCE_WORD_PLAIN;
  if (IN(titles, &key))
    return SENTENCE_WORD_TITLE;
  if (IN(before_numbers, &key))
    return SENTENCE_WORD_NUMBER;
  return IN(either, &key) || is_letters(word, n) ? SENTENCE_WORD_EITHER : SENTENCE_WORD_PLAIN;
}

bool sentence_word_starts(const char *word, int64_t n) {
  const word_view key = {word, n};
  return n > 0 && memchr(word, '\0', (size_t)n) == NULL && IN(starters, &key);
}
