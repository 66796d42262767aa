#![allow(unused)]
use pellucid::prelude::*;
fn f(bert:&Bert,text:&Text,x:&Tensor)->Result<Tensor>{Target::Logit(1).of(&bert.logits(text,x)?)}
fn main()->Result<()>{
 let bert=Bert::load("pellucid/tiny-bert-sentiment")?; println!("{bert:?}");
 let mut pats=vec![];
 for s in ["I absolutely loved the movie!","I absolutely hated the movie!","The film was not bad at all.","I loved the movie!"] {
  let text=bert.read(s)?; let x=bert.embed(&text)?;
  println!("== {s} {:?} rms {}", bert.predict(&text)?, x.sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt());
  let a=bert.attention(&text)?;
  println!("{}",HeadGrid::new(&a,&text)?.text());
  for (l,p) in a.iter().enumerate(){ let cls=p.mean(1)?.i((0,0))?.to_vec1::<f32>()?; println!("layer {l} cls row {:?}", text.tokens().iter().zip(cls).map(|(t,c)|format!("{} {c:.2}",t.text)).collect::<Vec<_>>()); }
  println!("rollout {:?}", rollout(&a,&Rollout::default())?.i((0,0))?.to_vec1::<f32>()?);
  pats.push(a);
  let sg=Noise::new(0.1,50,0);
  for sigma in [0.01,0.02,0.05,0.1]{ 
    let n=Noise::new(sigma,100,0);
    let e=embedding_sensitivity(|x|f(&bert,&text,x),&x,&n)?.over(&text)?; println!("sens {sigma} {:?}",e.scores.iter().map(|s|format!("{s:.3}")).collect::<Vec<_>>());
    let e=smooth_grad(|x|f(&bert,&text,x),&x,&n)?; let v=e.tensor()?.sqr()?.sum(1)?.sqrt()?.to_vec1::<f64>()?; println!("smooth {sigma} {:?}",v.iter().map(|s|format!("{s:.3}")).collect::<Vec<_>>());
    let v=(e.tensor()?*x.to_dtype(DType::F64)?)?.sum(1)?.to_vec1::<f64>()?; println!("smoothxin {sigma} {:?}",v.iter().map(|s|format!("{s:.3}")).collect::<Vec<_>>());
  }
  let e=gradient(|x|f(&bert,&text,x),&x)?; let v=e.tensor()?.sqr()?.sum(1)?.sqrt()?.to_vec1::<f64>()?; println!("grad norm {:?}",v.iter().map(|s|format!("{s:.3}")).collect::<Vec<_>>());
 }
 for l in 0..3 { let d=(&pats[0][l]-&pats[1][l])?.abs()?; println!("layer {l} loved/hated mean abs diff {} max {}", d.mean_all()?.to_scalar::<f32>()?, d.max_all()?.to_scalar::<f32>()?); }
 // 2x2
 let text=bert.read("The film was not bad at all.")?; let x=bert.embed(&text)?; let base=bert.baseline(&text,&Baseline::token("[MASK]"))?;
 let c=x.dim(1)?;
 let hide=|x:&Tensor,i:usize|->Result<Tensor>{Ok(x.slice_assign(&[i..i+1,0..c],&base.narrow(0,i,1)?)?)};
 let both=x.clone(); let nonot=hide(&x,4)?; let nobad=hide(&x,5)?; let none=hide(&nonot,5)?;
 println!("both,not only(bad hidden),bad only,none {:?}", f(&bert,&text,&Tensor::stack(&[both,nobad,nonot,none],0)?)?.to_vec1::<f32>()?);
 let t0=std::time::Instant::now();
 let m=Bert::load("sentence-transformers/all-MiniLM-L6-v2")?; println!("{m:?} {:?}",t0.elapsed());
 for (q,s) in [("How do I reset my password?","I forgot my login credentials and cannot sign in."),("A man is playing a guitar on stage.","Someone performs music for an audience."),("The chef cooked a spicy soup.","The kitchen prepared a hot curry.")] {
 let (a,b)=(m.read(q)?,m.read(s)?);
 let eb=m.sentence_embedding(&b,&m.embed(&b)?.unsqueeze(0)?)?;
 let x=m.embed(&a)?; let base=m.baseline(&a,&Baseline::token("[PAD]"))?;
 let g=|x:&Tensor|->Result<Tensor>{Ok(m.sentence_embedding(&a,x)?.broadcast_mul(&eb)?.sum(1)?)};
 for st in [Steps::default(),Steps::until(1e-3)]{
 let why=integrated_gradients(g,&x,&base,&st)?.over(&a)?.words()?; println!("{} {:?}",why.text(),t0.elapsed());}
 }
 Ok(())}
