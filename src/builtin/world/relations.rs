//! How facts are told and asked: wordings of each relation. `{s}` stands for the subject, `{o}` for
//! the object, `{n}` for a person of no matter which name.

/// A kind of fact.
pub struct Relation {
    pub name: &'static str,
    /// Whether pretraining asks about it; if not, the tasks do.
    pub school: bool,
    /// At least five sentences that say the same.
    pub told: &'static [&'static str],
    /// Questions whose answer is the object.
    pub asked: &'static [&'static str],
    /// Questions whose answer is the subject; empty where an object has too many.
    pub reversed: &'static [&'static str],
    /// A question that is true or false.
    pub claimed: &'static [&'static str],
}

pub const RELATIONS: [Relation; 18] = [
    Relation {
        name: "home",
        school: true,
        told: &[
            "{s} lives in {o}.",
            "The home of {s} is in {o}.",
            "{s} has a house in {o}.",
            "In {o} you find the house of {s}.",
            "If you go to {o}, you can meet {s} there.",
        ],
        asked: &["Where does {s} live?", "In which town is the home of {s}?"],
        reversed: &["Who lives in {o}?"],
        claimed: &["does {s} live in {o}?", "is the home of {s} in {o}?"],
    },
    Relation {
        name: "job",
        school: true,
        told: &[
            "{s} works as a {o}.",
            "{s} is a {o}.",
            "The job of {s} is that of a {o}.",
            "As a {o}, {s} works all day.",
            "{s} earns money as a {o}.",
        ],
        asked: &["What is the job of {s}?", "What does {s} work as?"],
        reversed: &["Who works as a {o}?"],
        claimed: &["is {s} a {o}?", "does {s} work as a {o}?"],
    },
    Relation {
        name: "pet",
        school: false,
        told: &[
            "{s} has a {o} as a pet.",
            "The pet of {s} is a {o}.",
            "{s} keeps a {o} at home.",
            "A {o} is the pet of {s}.",
            "Every day {s} plays with a {o}.",
        ],
        asked: &[
            "Which pet does {s} have?",
            "What is the pet of {s}?",
            "Which animal does {s} keep at home?",
        ],
        reversed: &["Who has a {o} as a pet?"],
        claimed: &["does {s} have a {o} as a pet?", "is the pet of {s} a {o}?"],
    },
    Relation {
        name: "food",
        school: false,
        told: &[
            "{s} likes to eat {o}.",
            "The favorite food of {s} is {o}.",
            "When hungry, {s} eats {o}.",
            "{s} loves {o} more than any other food.",
            "For dinner {s} wants {o}.",
        ],
        asked: &[
            "What does {s} like to eat?",
            "What is the favorite food of {s}?",
            "What does {s} want for dinner?",
        ],
        reversed: &["Who likes to eat {o}?"],
        claimed: &["does {s} like to eat {o}?", "is {o} the favorite food of {s}?"],
    },
    Relation {
        name: "habitat",
        school: true,
        told: &[
            "The {s} lives in the {o}.",
            "The home of the {s} is the {o}.",
            "In the {o} you can see a {s}.",
            "A {s} is at home in the {o}.",
            "If you look for a {s}, go to the {o}.",
        ],
        asked: &["Where does the {s} live?", "Where can you see a {s}?"],
        reversed: &["Which animal lives in the {o}?"],
        claimed: &["does the {s} live in the {o}?"],
    },
    Relation {
        name: "cover",
        school: true,
        told: &[
            "The {s} is covered with {o}.",
            "The body of the {s} has {o}.",
            "A {s} has {o} all over.",
            "{o} cover the body of the {s}.",
            "Touch a {s} and you feel {o}.",
        ],
        asked: &["What covers the {s}?", "What does a {s} have all over?"],
        reversed: &["Which animal is covered with {o}?"],
        claimed: &["is the {s} covered with {o}?"],
    },
    Relation {
        name: "diet",
        school: false,
        told: &[
            "The {s} eats {o}.",
            "The food of the {s} is {o}.",
            "A {s} feeds on {o}.",
            "A hungry {s} looks for {o}.",
            "{o} is what the {s} eats.",
        ],
        asked: &[
            "What does the {s} eat?",
            "What does a hungry {s} look for?",
            "What is the food of the {s}?",
        ],
        reversed: &["Which animal eats {o}?", "Which animal feeds on {o}?"],
        claimed: &["does the {s} eat {o}?", "is {o} the food of the {s}?"],
    },
    Relation {
        name: "motion",
        school: false,
        told: &[
            "The {s} {o}.",
            "To get around, the {s} {o}.",
            "Look, the {s} {o} away.",
            "When it is in a hurry, a {s} {o}.",
            "Everybody knows that a {s} {o}.",
        ],
        asked: &["How does the {s} get around?", "What does a {s} do when it is in a hurry?"],
        reversed: &["Which animal {o}?"],
        claimed: &["is it true that the {s} {o}?"],
    },
    Relation {
        name: "material",
        school: true,
        told: &[
            "The {s} is made of {o}.",
            "A {s} consists of {o}.",
            "To make a {s}, you need {o}.",
            "{o} is what a {s} is made of.",
            "The {s} is a thing of {o}.",
        ],
        asked: &["What is the {s} made of?", "What do you need to make a {s}?"],
        reversed: &["Which thing is made of {o}?"],
        claimed: &["is the {s} made of {o}?"],
    },
    Relation {
        name: "use",
        school: false,
        told: &[
            "You use the {s} to {o}.",
            "The {s} is used to {o}.",
            "To {o}, take the {s}.",
            "With the {s} you can {o}.",
            "If you want to {o}, you need the {s}.",
        ],
        asked: &["What can you do with the {s}?", "What is the {s} used for?"],
        reversed: &["How do you {o}?", "What do you need to {o}?", "How can you {o}?"],
        claimed: &["can you use the {s} to {o}?"],
    },
    Relation {
        name: "place",
        school: false,
        told: &[
            "The {s} is kept in the {o}.",
            "You find the {s} in the {o}.",
            "The place of the {s} is the {o}.",
            "In the {o} there is a {s}.",
            "Put the {s} back in the {o}.",
        ],
        asked: &[
            "Where is the {s} kept?",
            "Where do you find the {s}?",
            "Where do you put the {s}?",
        ],
        reversed: &["Which thing is kept in the {o}?"],
        claimed: &["is the {s} kept in the {o}?"],
    },
    Relation {
        name: "fire",
        school: true,
        told: &[
            "In the fire {s} {o}.",
            "{s} {o}.",
            "Near a flame, {s} {o}.",
            "If you light it, {s} {o}.",
            "Everybody knows that {s} {o}.",
        ],
        asked: &["What does {s} do in the fire?"],
        reversed: &["Which material {o}?"],
        claimed: &["does it hold that {s} {o}?"],
    },
    Relation {
        name: "water",
        school: false,
        told: &[
            "In water {s} {o}.",
            "{s} {o} in the lake.",
            "If you drop it in the pond, {s} {o}.",
            "A piece of {s} {o} in the sea.",
            "On the river {s} {o}.",
        ],
        asked: &["What does {s} do in water?"],
        reversed: &["Which material {o} in water?"],
        claimed: &["is it true that {s} {o} in water?"],
    },
    Relation {
        name: "touch",
        school: false,
        told: &[
            "{s} feels {o}.",
            "If you touch it, {s} feels {o}.",
            "A piece of {s} feels {o} in the hand.",
            "The hand finds that {s} feels {o}.",
            "To the touch {s} is {o}.",
        ],
        asked: &["How does {s} feel in the hand?"],
        reversed: &["Which material feels {o}?"],
        claimed: &["does {s} feel {o} in the hand?"],
    },
    Relation {
        name: "contents",
        school: false,
        told: &[
            "The {s} holds {o}.",
            "In the {s} there is {o}.",
            "You keep {o} in the {s}.",
            "The {s} is full of {o}.",
            "For {o} you need the {s}.",
        ],
        asked: &["What does the {s} hold?", "What do you keep in the {s}?"],
        reversed: &["Where do you keep {o}?", "What do you need for {o}?"],
        claimed: &["does the {s} hold {o}?"],
    },
    Relation {
        name: "time",
        school: false,
        told: &[
            "The time of {s} is {o}.",
            "{s} comes in {o}.",
            "In {o} comes {s}.",
            "When it is {o}, it is time for {s}.",
            "Wait until {o} for {s}.",
        ],
        asked: &["When is the time of {s}?", "When does {s} come?"],
        reversed: &["What comes in {o}?"],
        claimed: &["does {s} come in {o}?"],
    },
    Relation {
        name: "effect",
        school: false,
        told: &[
            "When {s}, {o}.",
            "If {s}, then {o}.",
            "{s}, and so {o}.",
            "Because {s}, {o}.",
            "As soon as {s}, {o}.",
        ],
        asked: &["What happens when {s}?", "What follows when {s}?"],
        reversed: &[],
        claimed: &["is it true that {o} when {s}?"],
    },
    Relation {
        name: "feeling",
        school: false,
        told: &[
            "{n} {s} and is {o}.",
            "{n} {s}. Now {n} feels {o}.",
            "{n} is {o}, because {n} {s}.",
            "{n} {s} and feels {o}.",
            "Who {s} is {o}.",
        ],
        asked: &["{n} {s}. How does {n} feel?", "{n} {s}. What will {n} be now?"],
        reversed: &[],
        claimed: &["is somebody who {s} {o}?"],
    },
];

/// The relation called `name`, which is one of those above.
pub fn relation(name: &str) -> usize {
    RELATIONS.iter().position(|r| r.name == name).unwrap_or(0)
}
