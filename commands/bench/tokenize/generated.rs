//! A made-up text, the same everywhere: prose, code, other scripts and logs. Knows no tokens.

use crate::bench::tokens::Numbers;

/// Bytes of the text, at least.
const LENGTH: usize = 1_000_000;

/// Common words, the commonest first.
const WORDS: &str = "the of and to in a is that it was for on as with his he be at by had not are but from or have an \
    they which one you were all her she there would their we him been has when who will no more if out so up said what \
    its about than into them can only other time new some could these two may first then do any like my now over such \
    our man me even most made after also well did many before must years back through much where your way down should \
    because long each just state people those too little world good very make still see own work men day here get old \
    life between while never being might another under house without again great night water house light morning river \
    mountain question nothing everything together remember something children important different government beautiful";

/// What rarer words are made of.
const SYLLABLES: &str = "al an ar be ca con de di el en er ex fa ge ha im in la le ma men mi ne no on or pa per po pre \
    ra re ri ro sa se si so sta sub ta ter ti tion tra un ur ve vi ing ed ly ness";

/// Words in other scripts; those of one line go together, and with the space that they are joined by.
const SCRIPTS: [(&str, &str); 8] = [
    (
        " ",
        "в и не на я быть он с что а это весь по время год человек дело жизнь который сказал только большой",
    ),
    (
        " ",
        "και το να του η είναι που με από για δεν άνθρωπος χρόνος ημέρα κόσμος θάλασσα",
    ),
    (
        " ",
        "في من على أن إلى كان هذا التي الذي وقت يوم الناس العالم الحياة مدينة كتاب",
    ),
    (" ", "और है के में की यह का से को पर समय दिन लोग जीवन दुनिया पानी"),
    (
        "",
        "的 一 是 不 了 在 人 有 我 他 这 个 中国 时间 生活 世界 城市 没有 可以 因为 语言 模型 ，",
    ),
    (
        "",
        "は の に を が と です ます 時間 世界 言葉 東京 コンピュータ モデル ありがとう 、",
    ),
    (
        " ",
        "그는 나는 것이 있다 없다 사람 시간 세계 언어 모델 오늘 그리고 하지만",
    ),
    (
        " ",
        "déjà être où ça cœur für über größer niño mañana 🙂 🚀 👩‍💻 ❤️ naïve Zürich",
    ),
];

/// The text.
pub(super) fn text() -> String {
    let mut writer = Writer {
        numbers: Numbers::new(0),
        words: &WORDS.split_whitespace().collect::<Vec<_>>(),
        syllables: &SYLLABLES.split_whitespace().collect::<Vec<_>>(),
        text: String::with_capacity(LENGTH + 4096),
    };
    while writer.text.len() < LENGTH {
        match writer.below(20) {
            0..12 => writer.prose(),
            12..16 => writer.code(),
            16..19 => writer.script(),
            _ => writer.log(),
        }
    }
    writer.text
}

struct Writer<'a> {
    numbers: Numbers,
    words: &'a [&'static str],
    syllables: &'a [&'static str],
    text: String,
}

impl Writer<'_> {
    fn below(&mut self, end: usize) -> usize {
        (self.numbers.next() % end as u64) as usize
    }

    fn one_of(&mut self, all: &[&'static str]) -> &'static str {
        all[self.below(all.len())]
    }

    /// One word of four is a rare one; of the others those at the front come more often.
    fn word(&mut self) -> String {
        if self.below(4) == 0 {
            let count = 2 + self.below(3);
            return (0..count).map(|_| self.one_of(self.syllables)).collect();
        }
        let end = 1 + self.below(self.words.len());
        self.one_of(&self.words[..end]).to_owned()
    }

    fn capital(&mut self) -> String {
        let word = self.word();
        let first = word
            .chars()
            .next()
            .map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(word.chars().skip(1)).collect()
    }

    fn prose(&mut self) {
        for _ in 0..3 + self.below(5) {
            let first = self.capital();
            self.text += &first;
            for _ in 0..5 + self.below(15) {
                let word = self.word();
                let between = self.one_of(&[" ", " ", " ", " ", " ", " ", ", ", "; ", " - "]);
                self.text += between;
                self.text += &word;
            }
            let end = self.one_of(&[".", ".", ".", "?", "!", ", it's \"so\"."]);
            self.text += end;
            self.text.push(' ');
        }
        self.text += "\n\n";
    }

    fn code(&mut self) {
        let [name, argument, value] = [(); 3].map(|()| self.word());
        let [kind, other] = [(); 2].map(|()| self.capital());
        let number = self.below(100_000);
        let function = format!(
            "/// {kind} {argument} {value}.\npub fn {name}_{value}({argument}: &mut {kind}<{other}>) -> Option<u32> {{\n    \
             let {value} = {argument}.{name}().iter().map(|x| x * {number}).sum::<u32>();\n    if {value} >= 0x{number:04x} \
             && !{argument}.is_empty() {{\n        return None;\n    }}\n    Some({value})\n}}\n\n"
        );
        self.text += &function;
    }

    fn script(&mut self) {
        let (between, words) = SCRIPTS[self.below(SCRIPTS.len())];
        let words: Vec<&str> = words.split_whitespace().collect();
        for _ in 0..20 + self.below(40) {
            let word = self.one_of(&words);
            self.text += word;
            self.text += between;
        }
        self.text.push('\n');
    }

    fn log(&mut self) {
        for _ in 0..2 + self.below(6) {
            let (word, number, port) = (self.word(), self.below(10_000_000), self.below(65_536));
            let line = format!(
                "2026-01-{:02}T{:02}:00:00Z INFO\t[{word}] {{\"id\": {number}, \"took_ms\": {}.5, \"from\": \
                 \"10.0.{}.1:{port}\"}}\n",
                1 + port % 28,
                port % 24,
                number % 977,
                number % 256,
            );
            self.text += &line;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LENGTH, text};

    #[test]
    fn the_text_is_the_same_each_time_and_of_its_length() {
        let made = text();
        assert_eq!(made, text());
        assert!(
            (LENGTH..LENGTH + 8192).contains(&made.len()),
            "{}",
            made.len()
        );
        for part in [" the ", "pub fn ", "世界", "человек", "INFO\t["] {
            assert!(made.contains(part), "{part}");
        }
    }
}
